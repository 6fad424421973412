#include "backend/view.h"

#include <cstdio>

#include "backend/status.h"

namespace comneck {

int64_t element_bytes_of(int32_t type) {
  switch (type) {
    case COMNECK_F32:
    case COMNECK_I32:
      return 4;
    case COMNECK_BF16:
    case COMNECK_F16:
    case COMNECK_I16:
      return 2;
    case COMNECK_U8:
      return 1;
    default:
      return 0;
  }
}

int64_t positions_of(int32_t grid, int32_t height, int32_t width) {
  const int64_t all = int64_t{height} * width;
  if (grid == COMNECK_ANCHORS) return (all + 1) / 2;
  if (grid == COMNECK_NON_ANCHORS) return all / 2;
  return all;
}

ViewText::ViewText(const comneck_view &view) {
  static const char *const types[] = {"F32", "BF16", "F16", "I32", "I16", "U8"};
  static const char *const grids[] = {"", " anchors", " non-anchors"};
  std::snprintf(text, sizeof text, "%s [%d, %dx%d%s, %d]", view.type >= 0 && view.type <= 5 ? types[view.type] : "?",
                view.images, view.height, view.width, view.grid >= 0 && view.grid <= 2 ? grids[view.grid] : "?",
                view.channels);
}

bool same_shape(const comneck_view &a, const comneck_view &b) {
  return a.images == b.images && a.grid == b.grid && a.height == b.height && a.width == b.width &&
         a.channels == b.channels;
}

bool overlap(const comneck_view &a, const comneck_view &b) {
  const int64_t a_end = a.offset_bytes + positions_of(a) * a.images * a.channel_stride * element_bytes_of(a.type);
  const int64_t b_end = b.offset_bytes + positions_of(b) * b.images * b.channel_stride * element_bytes_of(b.type);
  if (a_end <= b.offset_bytes || b_end <= a.offset_bytes) return false;
  // Slices of one buffer may lie side by side.
  const bool one_buffer = a.offset_bytes == b.offset_bytes && a.channel_stride == b.channel_stride && a.type == b.type;
  return !one_buffer ||
         (a.channel_offset < b.channel_offset + b.channels && b.channel_offset < a.channel_offset + a.channels);
}

namespace {

int32_t fail_between(const comneck_view &a, const comneck_view &b, const char *what) {
  return fail(COMNECK_MISUSE, "%s and %s %s", ViewText(a).text, ViewText(b).text, what);
}

}  // namespace

int32_t check_same(const comneck_view &a, const comneck_view &b) {
  if (!same_shape(a, b)) return fail_between(a, b, "should have one shape");
  const bool in_place = a.offset_bytes == b.offset_bytes && a.channel_offset == b.channel_offset && a.channel_stride == b.channel_stride &&
                        a.type == b.type;
  return in_place || !overlap(a, b) ? COMNECK_OK : fail_between(a, b, "overlap in part");
}

int32_t check_tokens(const comneck_view &a, const comneck_view &b) {
  if (a.grid != COMNECK_FULL || b.grid != COMNECK_FULL || a.images != b.images) return fail_between(a, b, "should be full grids of one batch");
  return overlap(a, b) ? fail_between(a, b, "overlap") : COMNECK_OK;
}

int32_t check_view(const comneck_view *view, const char *name, int64_t *reach) {
  constexpr int64_t kMost = int64_t{1} << 40;
  constexpr int32_t kMostSide = 1 << 24;  // so that coordinates times strides stay 32-bit numbers
  if (view == nullptr) return fail(COMNECK_MISUSE, "%s is missing", name);
  const ViewText text(*view);
  const int64_t element = element_bytes_of(view->type);
  if (element == 0 || view->grid < COMNECK_FULL || view->grid > COMNECK_NON_ANCHORS) {
    return fail(COMNECK_MISUSE, "%s has type %d and grid %d", name, view->type, view->grid);
  }
  if (view->images < 1 || view->height < 1 || view->width < 1 || view->channels < 1) {
    return fail(COMNECK_MISUSE, "%s is %s: sizes start at 1", name, text.text);
  }
  if (view->height > kMostSide || view->width > kMostSide) {
    return fail(COMNECK_MISUSE, "%s is %s: a side ends at %d", name, text.text, kMostSide);
  }
  if (view->channel_offset < 0 || view->channel_stride < view->channels ||
      view->channel_offset > view->channel_stride - view->channels) {
    return fail(COMNECK_MISUSE, "%s takes channels %d..%lld of %d", name, view->channel_offset,
                static_cast<long long>(view->channel_offset) + view->channels, view->channel_stride);
  }
  const int64_t positions = positions_of(*view);
  if (positions > kMost / view->images || positions * view->images > kMost / view->channel_stride) {
    return fail(COMNECK_MISUSE, "%s is %s: too large", name, text.text);
  }
  const int64_t needed = positions * view->images * view->channel_stride * element;
  if (view->offset_bytes < 0 || view->offset_bytes % 64 != 0 || view->offset_bytes > kMost || view->bytes < needed) {
    return fail(COMNECK_MISUSE, "%s is %s: %lld bytes at %lld, but it needs %lld", name, text.text,
                static_cast<long long>(view->bytes), static_cast<long long>(view->offset_bytes),
                static_cast<long long>(needed));
  }
  if (view->offset_bytes + needed > *reach) *reach = view->offset_bytes + needed;
  return COMNECK_OK;
}

int32_t check_view(const comneck_view *view, const char *name, int32_t type, int32_t other_type, int64_t *reach) {
  if (const int32_t status = check_view(view, name, reach); status != COMNECK_OK) return status;
  if (view->type != type && view->type != other_type) {
    return fail(COMNECK_MISUSE, "%s is %s: another type is needed", name, ViewText(*view).text);
  }
  return COMNECK_OK;
}

int32_t check_resample(const comneck_view &pixels, int32_t rows, const int32_t *taps, int64_t taps_bytes, const comneck_view &destination) {
  const int32_t size = rows != 0 ? pixels.height : pixels.width;
  const int64_t outputs = rows != 0 ? destination.height : destination.width;
  if (pixels.grid != COMNECK_FULL || destination.grid != COMNECK_FULL || pixels.images != destination.images ||
      pixels.channels != destination.channels || overlap(pixels, destination) ||
      (rows != 0 ? pixels.width != destination.width : pixels.height != destination.height)) {
    return fail(COMNECK_MISUSE, "%s and %s are not one batch of pictures that differ in one side", ViewText(pixels).text,
                ViewText(destination).text);
  }
  const int64_t each = taps_bytes / 4 / outputs;
  if (taps == nullptr || each < 3 || taps_bytes != 4 * outputs * each) {
    return fail(COMNECK_MISUSE, "%lld bytes of taps for %lld elements", static_cast<long long>(taps_bytes), static_cast<long long>(outputs));
  }
  for (int64_t i = 0; i < outputs; i++) {
    const int32_t *tap = taps + i * each;
    if (tap[0] < 0 || tap[1] < 1 || tap[1] > each - 2 || tap[0] > size - tap[1]) {
      return fail(COMNECK_MISUSE, "%d taps from %d for element %lld, of %d", tap[1], tap[0], static_cast<long long>(i), size);
    }
    int64_t sum = 0;
    for (int32_t k = 0; k < tap[1]; k++) sum += tap[2 + k] < 0 ? -int64_t{tap[2 + k]} : tap[2 + k];
    if (255 * sum + (1 << 21) > INT32_MAX) return fail(COMNECK_MISUSE, "the weights of element %lld are too large", static_cast<long long>(i));
  }
  return COMNECK_OK;
}

}  // namespace comneck
