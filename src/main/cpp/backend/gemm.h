// The one matrix kernel behind every convolution and linear layer, for each instruction set.
//
// A tile is `rows` output positions x `vectors` SIMD vectors of output channels, kept in registers:
//
//     tile[r][c] = bias[c], then for every segment, for k in 0..count-1:  tile[r][c] = madd(a[r][k], b[k][c],
//     tile[r][c])
//
// A segment is a run of input channels at one tap of one source (or of several taps that lie side by side in memory);
// its a[r] point straight into the NHWC activations. The order of k within an element never changes, so every
// instruction set, tile size and blocking gives the same bits in f32. A "unit" is 32 bits of a and of each lane of b:
// one f32, or a pair of bf16.
#ifndef COMNECK_BACKEND_GEMM_H
#define COMNECK_BACKEND_GEMM_H

#include <cstdint>

namespace comneck {

inline constexpr int kMaxRows = 12;    // rows of the tallest tile
inline constexpr int kMaxVectors = 4;  // vectors of the widest tile
inline constexpr int kMaxColumns = 64;

struct Segment {
  const char *a[kMaxRows];  // first unit of each row; rows that do not take part point to any readable count units
  int64_t b;                // row of the panel, in units of k, that the segment starts at
  int32_t count;            // units
  uint32_t rows;            // bit r: row r takes part (the tap is inside the input)
};

// What happens to a finished tile: one addition of the residual, the function, one store.
struct FinishCall {
  const float *acc;  // row stride kMaxColumns
  int32_t rows;
  int32_t columns;        // only these are stored
  int32_t function;       // COMNECK_NONE, ...
  int32_t residual_type;  // COMNECK_F32 or COMNECK_BF16
  int32_t destination_type;
  const char *residual[kMaxRows];  // first element of each row, or all nullptr
  char *destination[kMaxRows];
};

// Tiles whose kernel can finish them itself: whole vectors, f32 throughout, at most a ReLU.
inline bool is_plain(const FinishCall &call, int32_t width) {
  return call.columns == width && call.destination_type == 0 && call.residual_type == 0 && call.function <= 1;
}

struct TileCall {
  const Segment *segments;
  int64_t segment_count;
  const char *b;             // packed panel: [k][vectors * lanes] units
  const float *bias;         // vectors * lanes values to start from, or nullptr: start from acc
  float *acc;                // rows x vectors * lanes, row stride kMaxColumns
  const FinishCall *finish;  // nullptr: the tile goes to acc; else straight to its destination (see is_plain)
};

using TileKernel = void (*)(const TileCall &call);

struct GemmKernels {
  int32_t lanes;                  // f32 lanes of a vector
  int32_t vectors;                // of the widest tile
  int32_t rows[kMaxVectors + 1];  // rows[v]: of the tallest tile of v vectors
  TileKernel tile[kMaxVectors + 1][kMaxRows + 1];
  void (*finish)(const FinishCall &call);
};

// Canonical f32, and bf16 pairs.
const GemmKernels &gemm_portable();
const GemmKernels &gemm_avx2();
const GemmKernels &gemm_avx512();
const GemmKernels &gemm_bf16_portable();
const GemmKernels &gemm_bf16_avx2();
const GemmKernels &gemm_bf16_avx512();
const GemmKernels &gemm_bf16_avx512bf16();

// The same for layers to at most kNarrow channels (a picture's three), which would leave most of a wide vector idle.
inline constexpr int kNarrow = 4;
const GemmKernels &gemm_narrow_avx2();
const GemmKernels &gemm_bf16_narrow_avx512bf16();

}  // namespace comneck

#endif
