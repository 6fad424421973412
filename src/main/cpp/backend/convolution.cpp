// destination[n, p, o] = function(bias[o] + sum over tap, channel of source[n, p * step + tap, channel] * weight [+
// residual[n, p, o]])
//
// One tap-list matrix product: rows are output positions (of one phase, over all images), columns are output channels,
// and k runs over taps, sources and channels in canonical order. Rows are read where they lie (NHWC), there is no
// im2col. Work is cut into (phase, block of rows, group of panels) tasks; how it is cut never changes a bit.
#include "backend/convolution.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "vision/vision.h"

namespace comneck {
namespace {

// A block of the packed panel that is meant to stay in the second-level cache (1 MB on the machines we know).
constexpr int64_t kPanelCacheBytes = 512 << 10;
// Rows of a task at most: their accumulators wait in memory between two blocks of k.
constexpr int64_t kMostBlockRows = 252;

// A source as the tiles see it, in units (one f32, or two bf16).
struct Source {
  int64_t offset_bytes;  // in the plan's memory or scratch
  bool in_scratch;
  bool same_positions;   // its position p feeds output position p; otherwise it is a full grid, addressed by row and
                         // column
  int32_t units;         // channels
  int64_t stride_bytes;  // from one position to the next
  int32_t first;         // unit of the layer's input where it starts
};

// Where row r of a tile lies.
struct Row {
  int64_t image;
  int64_t position;  // of the destination
  int32_t y;         // on the phase's grid; for half grids on the full one
  int32_t x;
};

struct PhaseWork {
  const Phase *phase;
  int32_t height;  // of the phase's own grid
  int32_t width;
  int64_t positions;
  int64_t rows;  // positions x images
  int64_t first_task;
  int64_t row_blocks;
  // Small grids: positions sorted by which taps they have, so that few tiles compute a tap for the sake of some of
  // their rows only.
  std::vector<Row> order;
};

struct PanelGroup {
  int32_t first;
  int32_t count;
  int32_t vectors;
};

class Convolution final : public Step {
 public:
  comneck_view destination{};
  comneck_view residual{};
  bool has_residual = false;
  int32_t function = COMNECK_NONE;
  const comneck_layer *layer = nullptr;
  int32_t input_height = 1;
  int32_t input_width = 1;
  std::vector<Source> sources;  // present ones
  // bf16: sources that are rounded and concatenated first, into scratch [images][positions][units] of the destination's
  // or the full grid.
  std::vector<comneck_view> rounded;
  std::vector<int32_t> rounded_first;  // channel
  int32_t rounded_grid = COMNECK_FULL;
  int64_t rounded_positions = 0;
  bool pad_rounded = false;  // some of the scratch is not written by a source

  std::vector<PhaseWork> phases;
  std::vector<PanelGroup> groups;
  int64_t tasks = 0;
  bool panels_first = false;
  int64_t scratch_offset = 0;  // of the threads' parts
  int64_t scratch_per_thread = 0;
  int64_t segment_bytes = 0;

  void execute(const Execution &execution) const override {
    if (!rounded.empty()) round_sources(execution);
    execution.pool.run(tasks, [&](int64_t task, int32_t thread) { run(execution, task, thread); });
  }

 private:
  // A task rounds a block of positions of all sources, each by one call of the copying kernel.
  void round_sources(const Execution &execution) const {
    const int64_t positions = rounded_positions * destination.images;
    const int64_t block_rows = std::max<int64_t>(8, 8192 / layer->units);
    const auto copy = layer->context->vision.copy;
    execution.pool.run((positions + block_rows - 1) / block_rows, [&](int64_t block, int32_t) {
      const int64_t first = block * block_rows;
      const int64_t count = std::min(block_rows, positions - first);
      const int64_t stride = int64_t{layer->units} * 2;
      char *scratch = execution.scratch;
      if (pad_rounded) std::memset(scratch + first * stride * 2, 0, static_cast<size_t>(count * stride) * 2);
      for (size_t s = 0; s < rounded.size(); ++s) {
        const comneck_view &view = rounded[s];
        CopyCall call{};
        call.source = {at(execution, view), view.type, view.channel_stride};
        call.destination = {scratch + int64_t{rounded_first[s]} * 2, COMNECK_BF16, stride};
        call.channels = view.channels;
        if (view.grid == rounded_grid) {
          call.source_positions = call.positions = positions;
          copy(call, first, count);
          continue;
        }
        // A full grid feeds a half one: gathered position by position.
        call.source_positions = call.positions = 1;
        for (int64_t i = first; i < first + count; ++i) {
          const Row row = half_grid_row(rounded_grid, view.width, i % rounded_positions);
          const int64_t from = i / rounded_positions * positions_of(view) + int64_t{row.y} * view.width + row.x;
          CopyCall one = call;
          one.source.data = at(execution, view) + from * view.channel_stride * element_bytes_of(view.type);
          one.destination.data = scratch + (i * stride + rounded_first[s]) * 2;
          copy(one, 0, 1);
        }
      }
    });
  }

  // Two neighbouring rows of a half grid hold `width` positions together.
  static Row half_grid_row(int32_t grid, int32_t width, int64_t p) {
    const auto pair = static_cast<int32_t>(p / width);
    const auto within = static_cast<int32_t>(p % width);
    const int32_t even =
        grid == COMNECK_ANCHORS ? (width + 1) / 2 : width / 2;  // positions of the first of the two rows
    const int32_t shift = grid == COMNECK_ANCHORS ? 0 : 1;      // column of the first of them
    if (within < even) return {0, p, 2 * pair, 2 * within + shift};
    return {0, p, 2 * pair + 1, 2 * (within - even) + 1 - shift};
  }

 public:
  // Position p of a phase in raster order.
  Row raster_row(const PhaseWork &work, int64_t p) const {
    if (destination.grid != COMNECK_FULL) return half_grid_row(destination.grid, destination.width, p);
    Row row{0, 0, static_cast<int32_t>(p / work.width), static_cast<int32_t>(p % work.width)};
    row.position = full_position(work, row);
    return row;
  }

 private:
  int64_t full_position(const PhaseWork &work, const Row &row) const {
    return (int64_t{row.y} * layer->output_step + work.phase->y) * destination.width +
           int64_t{row.x} * layer->output_step + work.phase->x;
  }

  // Rows index .. index + count - 1 of a phase, all images.
  void locate(const PhaseWork &work, int64_t index, int32_t count, Row *rows) const {
    int64_t image = index / work.positions;
    int64_t p = index % work.positions;
    if (!work.order.empty()) {
      for (int32_t r = 0; r < count; ++r) {
        rows[r] = work.order[static_cast<size_t>(p)];
        rows[r].image = image;
        if (++p == work.positions) {
          p = 0;
          ++image;
        }
      }
      return;
    }
    Row row = raster_row(work, p);
    row.image = image;
    for (int32_t r = 0;;) {
      rows[r] = row;
      if (++r == count) return;
      if (++p == work.positions) {
        p = 0;
        row = raster_row(work, 0);
        row.image = ++image;
      } else if (destination.grid != COMNECK_FULL) {
        row = half_grid_row(destination.grid, destination.width, p);
        row.image = image;
      } else if (++row.x < work.width) {
        row.position += layer->output_step;
      } else {
        row.x = 0;
        ++row.y;
        row.position = full_position(work, row);
      }
    }
  }

  // Segments of units k0..k1 of the tile's rows. Returns how many.
  int64_t list_segments(const Execution &execution, const Phase &phase, const Row *rows, int32_t count, int64_t k0,
                        int64_t k1, Segment *segments) const {
    const int64_t units = layer->units;
    const int32_t step = layer->input_step;
    const uint32_t all = (1u << count) - 1;
    int64_t origins[kMaxRows];  // where tap (0, 0) lies
    int32_t top = INT32_MAX, bottom = INT32_MIN, left = INT32_MAX, right = INT32_MIN;
    for (int32_t r = 0; r < count; ++r) {
      const int32_t y = rows[r].y * step;
      const int32_t x = rows[r].x * step;
      origins[r] = (rows[r].image * input_height + y) * input_width + x;
      top = std::min(top, y);
      bottom = std::max(bottom, y);
      left = std::min(left, x);
      right = std::max(right, x);
    }
    int64_t listed = 0;
    int64_t positions[kMaxRows];
    for (int64_t t = k0 / units; t * units < k1; ++t) {
      const Tap &tap = phase.taps[static_cast<size_t>(t)];
      const int64_t shift = int64_t{tap.dy} * input_width + tap.dx;
      uint32_t taking_part = 0;
      int32_t sample = 0;
      if (top + tap.dy >= 0 && bottom + tap.dy < input_height && left + tap.dx >= 0 && right + tap.dx < input_width) {
        taking_part = all;
        for (int32_t r = 0; r < count; ++r) positions[r] = origins[r] + shift;
      } else {
        for (int32_t r = 0; r < count; ++r) {
          const int32_t y = rows[r].y * step + tap.dy;
          const int32_t x = rows[r].x * step + tap.dx;
          positions[r] = origins[r] + shift;
          if (y >= 0 && y < input_height && x >= 0 && x < input_width) {
            taking_part |= 1u << r;
            sample = r;
          }
        }
      }
      if (taking_part == 0) continue;
      const int64_t from = std::max(k0 - t * units, int64_t{0});
      const int64_t to = std::min(k1 - t * units, units);
      for (const Source &source : sources) {
        const int64_t first = std::max<int64_t>(from, source.first);
        const int64_t last = std::min<int64_t>(to, source.first + source.units);
        if (first >= last) continue;
        const char *base = (source.in_scratch ? execution.scratch : execution.memory) + source.offset_bytes +
                           (first - source.first) * 4;
        Segment *previous = listed > 0 ? &segments[listed - 1] : nullptr;
        const int64_t b = t * units + first;
        if (previous != nullptr && taking_part == all && previous->rows == all && previous->b + previous->count == b &&
            !source.same_positions && source.stride_bytes == int64_t{source.units} * 4 && source.units == units &&
            previous->a[0] + int64_t{previous->count} * 4 == base + positions[0] * source.stride_bytes) {
          previous->count += static_cast<int32_t>(last - first);
          continue;
        }
        Segment &segment = segments[listed++];
        segment.b = b;
        segment.count = static_cast<int32_t>(last - first);
        segment.rows = taking_part;
        if (source.same_positions) {
          const int64_t each = positions_of(destination);
          for (int32_t r = 0; r < count; ++r) {
            segment.a[r] = base + (rows[r].image * each + rows[r].position) * source.stride_bytes;
          }
        } else {
          for (int32_t r = 0; r < count; ++r) {
            segment.a[r] = base + positions[(taking_part >> r & 1u) != 0 ? r : sample] * source.stride_bytes;
          }
        }
      }
    }
    return listed;
  }

  void run(const Execution &execution, int64_t task, int32_t thread) const {
    size_t which = phases.size() - 1;
    while (phases[which].first_task > task) --which;
    const PhaseWork &work = phases[which];
    const Phase &phase = *work.phase;
    const int64_t within = task - work.first_task;
    const auto group_count = static_cast<int64_t>(groups.size());
    const int64_t row_block = panels_first ? within % work.row_blocks : within / group_count;
    const PanelGroup &group =
        groups[static_cast<size_t>(panels_first ? within / work.row_blocks : within % group_count)];
    const int64_t first_row = work.rows * row_block / work.row_blocks;
    const int64_t block_rows = work.rows * (row_block + 1) / work.row_blocks - first_row;

    const GemmKernels &kernels = *layer->kernels;
    const int64_t units = static_cast<int64_t>(phase.taps.size()) * layer->units;
    const int64_t width = int64_t{group.vectors} * kernels.lanes;
    const int64_t k_blocks = count_k_blocks(units, width);
    const int64_t tallest = kernels.rows[group.vectors];
    const int64_t tiles = (block_rows + tallest - 1) / tallest;

    char *own = execution.scratch + scratch_offset + thread * scratch_per_thread;
    auto *segments = reinterpret_cast<Segment *>(own);
    auto *accumulators = reinterpret_cast<float *>(own + segment_bytes);
    const char *weights = layer->weights.data() + phase.offset * 4;
    const auto *bias = reinterpret_cast<const float *>(layer->bias.data());

    const bool ahead = phase.taps.size() == 1 && layer->units <= 512;
    Row rows[kMaxRows];
    for (int64_t k_block = 0; k_block < k_blocks; ++k_block) {
      const int64_t k0 = units * k_block / k_blocks;
      const int64_t k1 = units * (k_block + 1) / k_blocks;
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t start = block_rows * tile / tiles;
        const auto count = static_cast<int32_t>(block_rows * (tile + 1) / tiles - start);
        locate(work, first_row + start, count, rows);
        TileCall call{};
        call.segments = segments;
        call.segment_count = list_segments(execution, phase, rows, count, k0, k1, segments);
        call.acc = accumulators + (k_blocks > 1 ? start * kMaxColumns : 0);
        for (int32_t i = group.first; i < group.first + group.count; ++i) {
          const Panel &panel = layer->panels[static_cast<size_t>(i)];
          call.b = weights + units * panel.column * 4;
          call.bias = k_block == 0 ? bias + panel.column : nullptr;
          if (k_block < k_blocks - 1) {
            kernels.tile[group.vectors][count](call);
            continue;
          }
          const FinishCall last = finish_call(execution, rows, count, panel, call.acc);
          prefetch_ends(last);
          if (i == group.first && ahead) prefetch_ahead(call.segments, call.segment_count, count);
          const bool plain = is_plain(last, group.vectors * kernels.lanes);
          call.finish = plain ? &last : nullptr;
          kernels.tile[group.vectors][count](call);
          if (!plain) kernels.finish(last);
        }
      }
    }
  }

  // The end of a tile should not wait for memory.
  static void prefetch_ends(const FinishCall &call) {
    const int64_t bytes = call.columns * element_bytes_of(call.destination_type);
    const int64_t other = call.columns * element_bytes_of(call.residual_type);
    for (int32_t r = 0; r < call.rows; ++r) {
      for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(call.destination[r] + i, 1);
      for (int64_t i = 0; call.residual[r] != nullptr && i < other; i += 64) __builtin_prefetch(call.residual[r] + i);
    }
  }

  // Inputs of the next tile of a 1x1 layer, whose rows follow those of this one.
  static void prefetch_ahead(const Segment *segments, int64_t segment_count, int32_t count) {
    for (int64_t s = 0; s < segment_count; ++s) {
      const Segment &segment = segments[s];
      const int64_t ahead = count > 1 ? segment.a[count - 1] - segment.a[0] + (segment.a[1] - segment.a[0]) : 0;
      for (int32_t r = 0; r < count; ++r) {
        for (int64_t i = 0; i < int64_t{segment.count} * 4; i += 64) __builtin_prefetch(segment.a[r] + ahead + i);
      }
    }
  }

  FinishCall finish_call(const Execution &execution, const Row *rows, int32_t count, const Panel &panel,
                         const float *acc) const {
    FinishCall call;
    call.acc = acc;
    call.rows = count;
    call.columns = std::min(panel.vectors * layer->kernels->lanes, layer->geometry.output_channels - panel.column);
    call.function = function;
    call.destination_type = destination.type;
    const int64_t positions = positions_of(destination);
    const int64_t element = element_bytes_of(destination.type);
    char *to = at(execution, destination) + panel.column * element;
    for (int32_t r = 0; r < count; ++r) {
      call.destination[r] = to + (rows[r].image * positions + rows[r].position) * destination.channel_stride * element;
    }
    call.residual_type = COMNECK_F32;
    if (!has_residual) {
      for (int32_t r = 0; r < count; ++r) call.residual[r] = nullptr;
    } else {
      const int64_t other = element_bytes_of(residual.type);
      const char *from = at(execution, residual) + panel.column * other;
      call.residual_type = residual.type;
      for (int32_t r = 0; r < count; ++r) {
        call.residual[r] = from + (rows[r].image * positions + rows[r].position) * residual.channel_stride * other;
      }
    }
    return call;
  }

 public:
  // Fills PhaseWork::order where it is worth while.
  void sort_positions(PhaseWork &work) const {
    constexpr int64_t kMostPositions = 1024;
    const std::vector<Tap> &taps = work.phase->taps;
    if (work.positions > kMostPositions || taps.size() < 2 || taps.size() > 64) return;
    struct Entry {
      uint64_t taps;
      Row row;
    };
    std::vector<Entry> entries;
    for (int64_t p = 0; p < work.positions; ++p) {
      Entry entry{0, raster_row(work, p)};
      for (size_t t = 0; t < taps.size(); ++t) {
        const int32_t y = entry.row.y * layer->input_step + taps[t].dy;
        const int32_t x = entry.row.x * layer->input_step + taps[t].dx;
        if (y >= 0 && y < input_height && x >= 0 && x < input_width) entry.taps |= uint64_t{1} << t;
      }
      entries.push_back(entry);
    }
    std::stable_sort(entries.begin(), entries.end(), [](const Entry &a, const Entry &b) {
      const int a_count = std::popcount(a.taps);
      const int b_count = std::popcount(b.taps);
      return a_count != b_count ? a_count > b_count : a.taps > b.taps;
    });
    for (const Entry &entry : entries) work.order.push_back(entry.row);
  }

  static int64_t count_k_blocks(int64_t units, int64_t width) {
    return std::max<int64_t>(1, (units * width * 4 + kPanelCacheBytes - 1) / kPanelCacheBytes);
  }
};

int32_t check_sources(comneck_plan &plan, const comneck_layer &layer, const comneck_view *views, int32_t count,
                      const comneck_view &destination, int32_t &height, int32_t &width) {
  const comneck_convolution &g = layer.geometry;
  const bool pointwise = g.kernel_height == 1 && g.kernel_width == 1 && g.stride == 1 && g.padding == 0;
  int64_t channels = 0;
  height = 0;
  width = 0;
  for (int32_t i = 0; i < count; ++i) {
    const comneck_view &view = views[i];
    if (view.channel_stride == 0) {
      if (view.channels < 1) return fail(COMNECK_MISUSE, "absent source %d of %d channels", i, view.channels);
      channels += view.channels;
      continue;
    }
    const int32_t other = g.precision == COMNECK_PRECISION_BF16 ? COMNECK_BF16 : COMNECK_F32;
    if (const int32_t status = plan.check_view(&view, "a source", COMNECK_F32, other); status != COMNECK_OK)
      return status;
    const ViewText text(view);
    const ViewText to(destination);
    if (view.images != destination.images || (height != 0 && (view.height != height || view.width != width))) {
      return fail(COMNECK_MISUSE, "source %d is %s, the destination %s", i, text.text, to.text);
    }
    if (view.grid != COMNECK_FULL && (!pointwise || view.grid != destination.grid)) {
      return fail(COMNECK_MISUSE,
                  "source %d is %s, the destination %s: a half grid feeds itself through 1x1 layers only", i, text.text,
                  to.text);
    }
    if (overlap(view, destination)) {
      return fail(COMNECK_MISUSE, "source %d, %s, lies where the destination %s is written", i, text.text, to.text);
    }
    height = view.height;
    width = view.width;
    channels += view.channels;
  }
  if (channels != g.input_channels) {
    return fail(COMNECK_MISUSE, "sources of %lld channels for a layer of %d", static_cast<long long>(channels),
                g.input_channels);
  }
  if (height == 0) return fail(COMNECK_MISUSE, "no source is present");
  return COMNECK_OK;
}

}  // namespace

int32_t add_convolution(comneck_plan &plan, const comneck_layer &layer, const comneck_view *views, int32_t count,
                        const comneck_view *residual, int32_t function, const comneck_view &destination) {
  const comneck_convolution &g = layer.geometry;
  if (layer.context != plan.context) return fail(COMNECK_MISUSE, "the layer belongs to another context");
  if (count < 1 || count > 64 || views == nullptr) return fail(COMNECK_MISUSE, "%d sources", count);
  if (function < COMNECK_NONE || function > COMNECK_GELU) return fail(COMNECK_MISUSE, "function %d", function);
  if (const int32_t status = plan.check_view(&destination, "the destination", COMNECK_F32, COMNECK_BF16);
      status != COMNECK_OK) {
    return status;
  }
  const ViewText to(destination);
  if (destination.channels != g.output_channels) {
    return fail(COMNECK_MISUSE, "a layer to %d channels writes to %s", g.output_channels, to.text);
  }
  if (residual != nullptr) {
    if (const int32_t status = plan.check_view(residual, "the residual", COMNECK_F32, COMNECK_BF16);
        status != COMNECK_OK) {
      return status;
    }
    if (const int32_t status = check_same(*residual, destination); status != COMNECK_OK) return status;
  }
  auto step = std::make_unique<Convolution>();
  step->layer = &layer;
  step->destination = destination;
  step->function = function;
  if (residual != nullptr) {
    step->has_residual = true;
    step->residual = *residual;
  }
  if (const int32_t status =
          check_sources(plan, layer, views, count, destination, step->input_height, step->input_width);
      status != COMNECK_OK) {
    return status;
  }
  const int64_t tall = step->input_height;
  const int64_t wide = step->input_width;
  const int64_t height =
      g.kind == COMNECK_TRANSPOSED ? tall * g.stride : (tall + 2 * g.padding - g.kernel_height) / g.stride + 1;
  const int64_t width =
      g.kind == COMNECK_TRANSPOSED ? wide * g.stride : (wide + 2 * g.padding - g.kernel_width) / g.stride + 1;
  const bool too_small =
      g.kind != COMNECK_TRANSPOSED && (tall + 2 * g.padding < g.kernel_height || wide + 2 * g.padding < g.kernel_width);
  if (too_small || height != destination.height || width != destination.width) {
    return fail(COMNECK_MISUSE, "the layer makes %lldx%lld of %lldx%lld, the destination is %s",
                static_cast<long long>(height), static_cast<long long>(width), static_cast<long long>(tall),
                static_cast<long long>(wide), to.text);
  }
  if (destination.grid != COMNECK_FULL && (g.stride != 1 || height != tall || width != wide)) {
    return fail(COMNECK_MISUSE, "a half grid %s through a layer that changes the grid", to.text);
  }

  // Sources, and for bf16 the ones that must be rounded or realigned.
  bool direct = true;
  bool all_full = true;
  int32_t channel = 0;
  int32_t rounded_channels = 0;
  for (int32_t i = 0; i < count; ++i) {
    const comneck_view &view = views[i];
    if (view.channel_stride != 0 && view.grid != COMNECK_FULL) all_full = false;
    if (g.precision == COMNECK_PRECISION_BF16) {
      direct = direct && view.channels % 2 == 0 &&
               (view.channel_stride == 0 ||
                (view.type == COMNECK_BF16 && view.channel_offset % 2 == 0 && view.channel_stride % 2 == 0));
    }
  }
  const int32_t per_unit = g.precision == COMNECK_PRECISION_BF16 ? 2 : 1;
  for (int32_t i = 0; i < count; channel += views[i].channels, ++i) {
    const comneck_view &view = views[i];
    if (view.channel_stride == 0) continue;
    if (direct) {
      const int64_t element = element_bytes_of(view.type);
      step->sources.push_back({view.offset_bytes + view.channel_offset * element, false, view.grid != COMNECK_FULL,
                               view.channels / per_unit, view.channel_stride * element, channel / per_unit});
    } else {
      rounded_channels += view.channels;
      step->rounded.push_back(view);
      step->rounded_first.push_back(channel);
    }
  }
  int64_t scratch = 0;
  if (!direct) {
    step->pad_rounded = rounded_channels != layer.units * 2;
    step->rounded_grid = all_full ? COMNECK_FULL : destination.grid;
    step->rounded_positions = positions_of(step->rounded_grid, step->input_height, step->input_width);
    step->sources.push_back({0, true, !all_full, layer.units, int64_t{layer.units} * 4, 0});
    scratch = (step->rounded_positions * destination.images * layer.units * 4 + 63) / 64 * 64;
  }

  // Groups of panels of one width whose weights stay in cache together; a panel that needs blocks of k stands alone.
  int64_t most_units = 0;
  size_t most_taps = 0;
  int64_t packed_bytes = 0;
  for (const Phase &phase : layer.phases) {
    most_taps = std::max(most_taps, phase.taps.size());
    most_units = std::max(most_units, static_cast<int64_t>(phase.taps.size()) * layer.units);
    packed_bytes += static_cast<int64_t>(phase.taps.size()) * layer.units * layer.columns * 4;
  }
  bool blocked = false;
  for (size_t i = 0; i < layer.panels.size(); ++i) {
    const Panel &panel = layer.panels[i];
    const int64_t bytes = most_units * panel.vectors * layer.kernels->lanes * 4;
    blocked = blocked || Convolution::count_k_blocks(most_units, int64_t{panel.vectors} * layer.kernels->lanes) > 1;
    if (!step->groups.empty() && step->groups.back().vectors == panel.vectors &&
        bytes * (step->groups.back().count + 1) <= kPanelCacheBytes) {
      ++step->groups.back().count;
    } else {
      step->groups.push_back({static_cast<int32_t>(i), 1, panel.vectors});
    }
  }

  // Enough tasks for all threads to end together, few enough rows for the accumulators to stay close.
  const int64_t threads = plan.threads();
  const auto groups = static_cast<int64_t>(step->groups.size());
  const int64_t wanted = threads == 1 ? 1 : 8 * threads;
  int64_t block_rows = 1;
  for (const Phase &phase : layer.phases) {
    PhaseWork work{};
    work.phase = &phase;
    work.height = destination.height / layer.output_step;
    work.width = destination.width / layer.output_step;
    work.positions = destination.grid == COMNECK_FULL ? int64_t{work.height} * work.width : positions_of(destination);
    work.rows = work.positions * destination.images;
    const int64_t all_tasks = groups * static_cast<int64_t>(layer.phases.size());
    const int64_t for_threads = std::min((wanted + all_tasks - 1) / all_tasks, (work.rows + 23) / 24);
    work.row_blocks = std::max<int64_t>({1, for_threads, (work.rows + kMostBlockRows - 1) / kMostBlockRows});
    work.first_task = step->tasks;
    step->tasks += work.row_blocks * groups;
    block_rows = std::max(block_rows, (work.rows + work.row_blocks - 1) / work.row_blocks);
    step->sort_positions(work);
    step->phases.push_back(std::move(work));
  }
  const int64_t source_bytes = int64_t{layer.units} * 4 * tall * wide * destination.images;
  step->panels_first = packed_bytes > source_bytes;

  step->segment_bytes = static_cast<int64_t>(most_taps * step->sources.size() * sizeof(Segment) + 63) / 64 * 64;
  const int64_t accumulator_rows = blocked ? block_rows : kMaxRows;
  step->scratch_offset = scratch;
  step->scratch_per_thread = step->segment_bytes + accumulator_rows * kMaxColumns * 4;
  plan.need_scratch(scratch + threads * step->scratch_per_thread);
  return plan.add(std::move(step));
}

}  // namespace comneck
