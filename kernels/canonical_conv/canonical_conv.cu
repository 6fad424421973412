// A block computes kRows positions x kColumns channels, a thread kThreadRows x kThreadColumns of them in registers. k goes by in chunks of
// at most kChunk channels of one tap of one source, through two buffers in shared memory: while one is multiplied, the next one is on its
// way into registers. A chunk is never padded: fma(0, w, -0) is +0, so what is not there must not be multiplied. For the same reason each
// chunk has a mask of the rows whose tap lies inside the input.
#include "canonical_conv/canonical_conv.h"

#include <algorithm>

#include "backend/bits.h"
#include "elements.h"
#include "grids.h"

namespace comneck::cuda {

ConvLayer pack_layer(const comneck_convolution &g, const float *weight, const float *bias) {
  ConvLayer layer{};
  layer.geometry = g;
  const bool transposed = g.kind == COMNECK_TRANSPOSED;
  const int32_t steps = transposed ? g.stride : 1;
  layer.columns = (g.output_channels + 3) / 4 * 4;
  layer.input_step = transposed ? 1 : g.stride;
  layer.output_step = steps;
  const int64_t taps = int64_t{g.kernel_height} * g.kernel_width;
  const int64_t input_stride = transposed ? g.output_channels * taps : taps;
  const int64_t output_stride = transposed ? taps : g.input_channels * taps;
  for (int32_t y = 0; y < steps; y++) {
    for (int32_t x = 0; x < steps; x++) {
      ConvPhase phase{y, x, static_cast<int32_t>(layer.taps.size()), 0};
      for (int32_t ky = 0; ky < g.kernel_height; ky++) {
        for (int32_t kx = 0; kx < g.kernel_width; kx++) {
          ConvTap tap{ky - g.padding, kx - g.padding};
          if (transposed) {
            const int32_t down = y + g.padding - ky;
            const int32_t across = x + g.padding - kx;
            if (down % g.stride != 0 || across % g.stride != 0) continue;
            tap = {down / g.stride, across / g.stride};
          } else if (g.kind == COMNECK_CHECKERBOARD && (ky + kx) % 2 == 0) {
            continue;
          }
          layer.taps.push_back(tap);
          const int64_t base = int64_t{ky} * g.kernel_width + kx;
          for (int64_t c = 0; c < g.input_channels; c++) {
            for (int64_t o = 0; o < layer.columns; o++) {
              float w = o < g.output_channels ? weight[base + o * output_stride + c * input_stride] : 0.0f;
              if (g.precision == COMNECK_PRECISION_BF16) w = from_bf16(to_bf16(w));
              layer.weights.push_back(w);
            }
          }
        }
      }
      phase.taps = static_cast<int32_t>(layer.taps.size()) - phase.first_tap;
      layer.phases.push_back(phase);
    }
  }
  layer.bias.assign(static_cast<size_t>(layer.columns), 0.0f);
  if (bias != nullptr) std::copy_n(bias, g.output_channels, layer.bias.begin());
  return layer;
}

namespace {

constexpr int32_t kChunk = 16;

// Where the chain stands: the next chunk is channels at .. at + count of a source at a tap.
struct Cursor {
  int32_t tap;
  int32_t source;
  int32_t at;

  __device__ int32_t count(const ConvCall &call) const { return min(kChunk, call.sources[source].channels - at); }
  __device__ void advance(const ConvCall &call) {
    at += kChunk;
    if (at < call.sources[source].channels) return;
    at = 0;
    if (++source < call.source_count) return;
    source = 0;
    ++tap;
  }
};

// What a block knows of each of its rows.
struct Rows {
  int32_t *y;         // where its tap (0, 0) lies in the input; far outside for rows beyond the last
  int32_t *x;
  int64_t *image;     // first position of its image in the input
  int64_t *position;  // in the output; -1 beyond the last row
};

template <int kRows, int kColumns, int kThreadRows, int kThreadColumns>
__global__ void __launch_bounds__(kRows / kThreadRows *kColumns / kThreadColumns) multiply_tile(ConvCall call) {
  constexpr int kThreads = kRows / kThreadRows * (kColumns / kThreadColumns);
  constexpr int kLoadsA = kRows * kChunk / kThreads;
  constexpr int kLoadsB = kColumns * kChunk / kThreads;
  constexpr int kPad = 4;  // consecutive channels of one row go to different banks
  constexpr unsigned kMine = (1u << kThreadRows) - 1u;
  static_assert(kRows % 32 == 0 && kThreads >= kRows && kThreads % 32 == 0);
  static_assert(kRows * kChunk % kThreads == 0 && kColumns * kChunk % kThreads == 0 && 32 % kThreadRows == 0);
  COMNECK_SHARED(a, float[2][kChunk][kRows + kPad]);
  COMNECK_SHARED(b, float[2][kChunk][kColumns]);
  COMNECK_SHARED(inside, unsigned[2][kRows / 32]);
  COMNECK_SHARED(row_y, int32_t[kRows]);
  COMNECK_SHARED(row_x, int32_t[kRows]);
  COMNECK_SHARED(row_image, int64_t[kRows]);
  COMNECK_SHARED(row_position, int64_t[kRows]);

  const int t = static_cast<int>(threadIdx.x);
  const int first_row = t / (kColumns / kThreadColumns) * kThreadRows;
  const int first_column = t % (kColumns / kThreadColumns) * kThreadColumns;
  const int64_t block_row = int64_t{blockIdx.x} * kRows;
  const int32_t block_column = static_cast<int32_t>(blockIdx.y) * kColumns;
  const ConvPhase phase = call.phases[blockIdx.z];
  const bool full = call.grid == COMNECK_FULL;
  const int32_t phase_width = full ? call.width / call.output_step : call.width;
  const int32_t phase_positions = full ? call.height / call.output_step * phase_width : call.positions;

  if (t < kRows) {
    const int64_t row = block_row + t;
    const int64_t n = row / phase_positions;
    const bool exists = n < call.images;
    const int32_t p = static_cast<int32_t>(row % phase_positions);
    const Place place = place_of(call.grid, phase_width, p);
    constexpr int32_t kNowhere = -(1 << 30);
    row_y[t] = exists ? place.y * call.input_step : kNowhere;
    row_x[t] = exists ? place.x * call.input_step : kNowhere;
    row_image[t] = n * call.input_height * call.input_width;
    const int64_t within = full ? (int64_t{place.y} * call.output_step + phase.y) * call.width + int64_t{place.x} * call.output_step + phase.x
                                : p;
    row_position[t] = exists ? n * call.positions + within : -1;
  }

  float sum[kThreadRows][kThreadColumns];
  for (int j = 0; j < kThreadColumns; j++) {
    const int32_t column = block_column + first_column + j;
    const float bias = column < call.columns ? call.bias[column] : 0.0f;
    for (int i = 0; i < kThreadRows; i++) sum[i][j] = bias;
  }
  __syncthreads();

  float next_a[kLoadsA];
  float next_b[kLoadsB];
  unsigned next_inside = 0;
  const auto is_inside = [&](int row, const ConvTap &tap) {
    const int32_t y = row_y[row] + tap.dy;
    const int32_t x = row_x[row] + tap.dx;
    return y >= 0 && y < call.input_height && x >= 0 && x < call.input_width;
  };
  const auto fetch = [&](const Cursor &cursor) {
    const ConvSource &source = call.sources[cursor.source];
    const ConvTap tap = call.taps[phase.first_tap + cursor.tap];
    const int count = cursor.count(call);
    COMNECK_UNROLL
    for (int l = 0; l < kLoadsA; l++) {
      const int e = t + l * kThreads;
      const int k = e % kChunk;
      const int row = e / kChunk;
      float value = 0.0f;
      if (k < count && is_inside(row, tap)) {
        const int64_t position = source.same_positions
                                     ? row_position[row]
                                     : row_image[row] + int64_t{row_y[row] + tap.dy} * call.input_width + row_x[row] + tap.dx;
        value = load_element(source.side.data, source.side.type, position * source.side.stride + cursor.at + k);
        if (call.rounded) value = round_to_bf16(value);
      }
      next_a[l] = value;
    }
    const float *weights = call.weights + (int64_t{phase.first_tap + cursor.tap} * call.input_channels + source.first + cursor.at) * call.columns;
    COMNECK_UNROLL
    for (int l = 0; l < kLoadsB; l++) {
      const int e = t + l * kThreads;
      const int k = e / kColumns;
      const int32_t column = block_column + e % kColumns;
      next_b[l] = k < count && column < call.columns ? weights[int64_t{k} * call.columns + column] : 0.0f;
    }
    if (t < kRows) next_inside = __ballot_sync(0xFFFFFFFFu, is_inside(t, tap) ? 1 : 0);
  };
  const auto keep = [&](int buffer) {
    COMNECK_UNROLL
    for (int l = 0; l < kLoadsA; l++) {
      const int e = t + l * kThreads;
      a[buffer][e % kChunk][e / kChunk] = next_a[l];
    }
    COMNECK_UNROLL
    for (int l = 0; l < kLoadsB; l++) {
      const int e = t + l * kThreads;
      b[buffer][e / kColumns][e % kColumns] = next_b[l];
    }
    if (t < kRows && t % 32 == 0) inside[buffer][t / 32] = next_inside;
  };
  const auto step = [&](int buffer, int k, unsigned mask) {
    float x[kThreadRows];
    float w[kThreadColumns];
    COMNECK_UNROLL
    for (int i = 0; i < kThreadRows; i++) x[i] = a[buffer][k][first_row + i];
    COMNECK_UNROLL
    for (int j = 0; j < kThreadColumns; j++) w[j] = b[buffer][k][first_column + j];
    COMNECK_UNROLL
    for (int i = 0; i < kThreadRows; i++) {
      if ((mask >> i & 1u) == 0) continue;
      COMNECK_UNROLL
      for (int j = 0; j < kThreadColumns; j++) sum[i][j] = fmaf(x[i], w[j], sum[i][j]);
    }
  };

  Cursor cursor{0, 0, 0};
  int count = 0;
  if (phase.taps > 0) {
    count = cursor.count(call);
    fetch(cursor);
    keep(0);
  }
  __syncthreads();
  for (int buffer = 0; count > 0; buffer ^= 1) {
    cursor.advance(call);
    const bool more = cursor.tap < phase.taps;
    const int next_count = more ? cursor.count(call) : 0;
    if (more) fetch(cursor);
    const unsigned mask = inside[buffer][first_row / 32] >> (first_row % 32) & kMine;
    if (mask == kMine && count == kChunk) {
      COMNECK_UNROLL_BY(4)
      for (int k = 0; k < kChunk; k++) step(buffer, k, kMine);
    } else if (mask != 0) {
      COMNECK_UNROLL_BY(1)
      for (int k = 0; k < count; k++) step(buffer, k, mask);
    }
    if (more) keep(buffer ^ 1);
    count = next_count;
    __syncthreads();
  }

  COMNECK_UNROLL
  for (int i = 0; i < kThreadRows; i++) {
    const int64_t position = row_position[first_row + i];
    if (position < 0) continue;
    COMNECK_UNROLL
    for (int j = 0; j < kThreadColumns; j++) {
      const int32_t column = block_column + first_column + j;
      if (column >= call.outputs) continue;
      float value = sum[i][j];
      if (call.residual.data != nullptr) {
        value = value + load_element(call.residual.data, call.residual.type, position * call.residual.stride + column);
      }
      value = apply_function(call.function, value);
      store_element(const_cast<void *>(call.destination.data), call.destination.type, position * call.destination.stride + column, value);
    }
  }
}

template <int kRows, int kColumns, int kThreadRows, int kThreadColumns>
cudaError_t launch_tile(const ConvCall &call, int64_t rows, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((rows + kRows - 1) / kRows), static_cast<unsigned>((call.outputs + kColumns - 1) / kColumns),
                  static_cast<unsigned>(call.phase_count));
  constexpr unsigned kThreads = kRows / kThreadRows * (kColumns / kThreadColumns);
  return launch(multiply_tile<kRows, kColumns, kThreadRows, kThreadColumns>, grid, kThreads, 0, stream, call);
}

constexpr int64_t blocks_of(int64_t rows, int64_t columns, int64_t tile_rows, int64_t tile_columns) {
  return (rows + tile_rows - 1) / tile_rows * ((columns + tile_columns - 1) / tile_columns);
}

}  // namespace

cudaError_t canonical_conv(const ConvCall &call, ConvTile tile, int32_t multiprocessors, cudaStream_t stream) {
  if (call.source_count < 1 || call.source_count > kMostSources || call.phase_count < 1 || call.images < 0) return cudaErrorInvalidValue;
  const int64_t rows = (call.grid == COMNECK_FULL ? int64_t{call.height / call.output_step} * (call.width / call.output_step)
                                                  : int64_t{call.positions}) * call.images;
  if (rows == 0) return cudaSuccess;
  if (rows > int64_t{32} * INT32_MAX) return cudaErrorInvalidValue;
  if (tile == ConvTile::kAuto) {
    const int64_t large = blocks_of(rows, call.outputs, 128, 64) * call.phase_count;
    tile = large >= int64_t{2} * multiprocessors ? ConvTile::kLarge : ConvTile::kSmall;
  }
  return tile == ConvTile::kLarge ? launch_tile<128, 64, 8, 8>(call, rows, stream) : launch_tile<32, 32, 2, 4>(call, rows, stream);
}

}  // namespace comneck::cuda
