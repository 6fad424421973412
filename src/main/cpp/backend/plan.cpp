#include "backend/plan.h"

#include <chrono>
#include <cstdio>
#include <mutex>
#include <utility>

#include "backend/float_environment.h"

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

}  // namespace comneck

using comneck::fail;

int32_t comneck_plan::check_view(const comneck_view *view, const char *name) {
  constexpr int64_t kMost = int64_t{1} << 40;
  constexpr int32_t kMostSide = 1 << 24;  // so that coordinates times strides stay 32-bit numbers
  if (view == nullptr) return fail(COMNECK_MISUSE, "%s is missing", name);
  const comneck::ViewText text(*view);
  const int64_t element = comneck::element_bytes_of(view->type);
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
  const int64_t positions = comneck::positions_of(*view);
  if (positions > kMost / view->images || positions * view->images > kMost / view->channel_stride) {
    return fail(COMNECK_MISUSE, "%s is %s: too large", name, text.text);
  }
  const int64_t needed = positions * view->images * view->channel_stride * element;
  if (view->offset_bytes < 0 || view->offset_bytes % 64 != 0 || view->offset_bytes > kMost || view->bytes < needed) {
    return fail(COMNECK_MISUSE, "%s is %s: %lld bytes at %lld, but it needs %lld", name, text.text,
                static_cast<long long>(view->bytes), static_cast<long long>(view->offset_bytes),
                static_cast<long long>(needed));
  }
  if (view->offset_bytes + needed > reach) reach = view->offset_bytes + needed;
  return COMNECK_OK;
}

int32_t comneck_plan::check_view(const comneck_view *view, const char *name, int32_t type, int32_t other_type) {
  if (const int32_t status = check_view(view, name); status != COMNECK_OK) return status;
  if (view->type != type && view->type != other_type) {
    return fail(COMNECK_MISUSE, "%s is %s: another type is needed", name, comneck::ViewText(*view).text);
  }
  return COMNECK_OK;
}

int32_t comneck_plan::add(std::unique_ptr<comneck::Step> step) {
  if (sealed) return fail(COMNECK_MISUSE, "a step added to a sealed plan");
  if (nanos.empty()) nanos.push_back(0);
  steps.push_back({std::move(step), static_cast<int32_t>(nanos.size()) - 1});
  return COMNECK_OK;
}

int32_t comneck_plan::seal(int64_t memory_bytes) {
  if (sealed) return fail(COMNECK_MISUSE, "the plan is sealed already");
  if (memory_bytes < reach) {
    return fail(COMNECK_MISUSE, "%lld bytes of memory, but the views reach to %lld",
                static_cast<long long>(memory_bytes), static_cast<long long>(reach));
  }
  memory = comneck::Memory(memory_bytes);
  scratch = comneck::Memory(scratch_bytes);
  sealed = true;
  return COMNECK_OK;
}

int32_t comneck_plan::execute() {
  if (!sealed) return fail(COMNECK_MISUSE, "the plan is not sealed");
  const std::lock_guard<std::mutex> turn(context->turn);
  const comneck::FloatEnvironment environment;
  const comneck::Execution execution{memory.data(), scratch.data(), context->pool};
  for (int64_t &stage : nanos) stage = 0;
  auto before = std::chrono::steady_clock::now();
  for (const Entry &entry : steps) {
    entry.step->execute(execution);
    const auto after = std::chrono::steady_clock::now();
    nanos[static_cast<size_t>(entry.stage)] +=
        std::chrono::duration_cast<std::chrono::nanoseconds>(after - before).count();
    before = after;
  }
  return COMNECK_OK;
}
