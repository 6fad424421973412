// The product of sm_80 that linear layers and convolutions share: a block computes kRows x kColumns outputs, each of its warps a rectangle of
// them in registers. k goes by in chunks of 64 through three stages of shared memory: while one chunk is multiplied, the next two are on their
// way (cp.async). What differs is where the left side's rows lie, which a Source knows, and where the outputs go.
//
// Rows of shared memory are 64 elements, eight pieces of 16 bytes; piece p of row r lies at place p ^ (r % 8), as in fused_attention. What
// lies beyond the last row, output or input is zero there. Groups of 16 rows without a row are not multiplied: with 257 rows the last block
// has one group.
//
// At the end the sums go through shared memory, so that bias, residual and function work on four neighbours at a time and memory gets whole
// sectors: 16 bytes of f32, 8 of bf16.
#ifndef COMNECK_KERNELS_MULTIPLY_BLOCK_H
#define COMNECK_KERNELS_MULTIPLY_BLOCK_H

#include "tensor_gemm/gemm_rows.h"

namespace comneck::cuda {

constexpr int kChunk = 64;
constexpr int kPieces = kChunk / 8;
constexpr int kStages = 3;

__device__ inline uint16_t *piece_of(uint16_t (*rows)[kChunk], int row, int piece) { return &rows[row][(piece ^ (row % 8)) * 8]; }

// How a block is divided.
template <int kBlockRows, int kBlockColumns, int kDown, int kAcross>
struct Tiling {
  static constexpr int kRows = kBlockRows;
  static constexpr int kColumns = kBlockColumns;
  static constexpr int kWarpsDown = kDown;
  static constexpr int kWarpsAcross = kAcross;
  static constexpr int kThreads = kDown * kAcross * 32;
  static_assert(kRows * kPieces % kThreads == 0 && kColumns * kPieces % kThreads == 0);
  // What a block's shared memory holds: the stages, then the sums.
  struct Stage {
    uint16_t source[kRows][kChunk];
    uint16_t weights[kColumns][kChunk];
  };
  static constexpr int kPitch = kColumns + 8;  // rows of sums: the pairs of half a warp fall into different banks
  static constexpr size_t kBytes = sizeof(Stage) * kStages;
  static_assert(sizeof(float) * kRows * kPitch <= kBytes);
};
using SmallTiling = Tiling<64, 64, 2, 2>;
using LargeTiling = Tiling<128, 128, 2, 4>;

// Lets a kernel have a tiling's shared memory.
template <class Tile, class... Parameters>
cudaError_t allow_tiling(void (*kernel)(Parameters...)) {
  if constexpr (Tile::kBytes > 48 * 1024) return allow_shared(kernel, Tile::kBytes);
  return cudaSuccess;
}

// Outputs from first_row of call.rows and first_column of call.outputs on. source(rows, chunk): starts filling rows of shared memory with a
// chunk, or fills them; rows_left of them exist. place(row): the row of residual and destination that gets row's outputs. neighbours: these can be
// reached by four elements at a time.
template <class T, class Tile, class Source, class Place>
__device__ inline void multiply_block(const GemmCall &call, int64_t first_row, const Source &source, const Place &place, bool neighbours) {
  constexpr int kThreads = Tile::kThreads;
  constexpr int kTall = Tile::kRows / Tile::kWarpsDown / 16;         // matrices of 16 rows a warp
  constexpr int kWide = Tile::kColumns / Tile::kWarpsAcross / 16;  // matrices of 16 columns
  COMNECK_DYNAMIC_SHARED(typename Tile::Stage, stages);
  const int t = static_cast<int>(threadIdx.x);
  const int lane = t % 32;
  const int warp_row = t / 32 / Tile::kWarpsAcross * kTall * 16;
  const int warp_column = t / 32 % Tile::kWarpsAcross * kWide * 16;
  const int32_t first_column = static_cast<int32_t>(blockIdx.y) * Tile::kColumns;
  const int32_t rows_left = static_cast<int32_t>(min(call.rows - first_row, int64_t{Tile::kRows}));
  const int32_t columns_left = min(call.outputs - first_column, int32_t{Tile::kColumns});
  const int64_t depth = gemm_depth(call.inputs);
  const int32_t chunks = (call.inputs + kChunk - 1) / kChunk;

  const auto fetch = [&](int32_t chunk) {
    typename Tile::Stage &stage = stages[chunk % kStages];
    source(stage.source, chunk);
    COMNECK_UNROLL
    for (int i = 0; i < Tile::kColumns * kPieces / kThreads; i++) {
      const int e = t + i * kThreads;
      const int column = e / kPieces;
      const int32_t k = chunk * kChunk + e % kPieces * 8;
      const bool exists = column < columns_left && k < depth;
      copy_16(piece_of(stage.weights, column, e % kPieces), exists ? call.weights + (first_column + column) * depth + k : call.weights,
              exists ? 16 : 0);
    }
  };

  float sum[kTall][kWide * 2][4];
  COMNECK_UNROLL
  for (int i = 0; i < kTall; i++) {
    COMNECK_UNROLL
    for (int j = 0; j < kWide * 2; j++) {
      COMNECK_UNROLL
      for (int v = 0; v < 4; v++) sum[i][j][v] = 0.0f;
    }
  }
  COMNECK_UNROLL
  for (int32_t chunk = 0; chunk < kStages - 1; chunk++) {
    if (chunk < chunks) fetch(chunk);
    commit_copies();
  }
  for (int32_t chunk = 0; chunk < chunks; chunk++) {
    wait_copies<kStages - 2>();  // a group for each chunk, empty ones included
    __syncthreads();             // this chunk is there, and the one before it is done with
    if (chunk + kStages - 1 < chunks) fetch(chunk + kStages - 1);
    commit_copies();
    typename Tile::Stage &stage = stages[chunk % kStages];
    COMNECK_UNROLL
    for (int k = 0; k < kChunk / 16; k++) {
      uint32_t weight[kWide][4];
      COMNECK_UNROLL
      for (int j = 0; j < kWide; j++) {
        load_matrices(weight[j], piece_of(stage.weights, warp_column + j * 16 + lane / 16 * 8 + lane % 8, k * 2 + lane / 8 % 2));
      }
      COMNECK_UNROLL
      for (int i = 0; i < kTall; i++) {
        if (warp_row + i * 16 >= rows_left) continue;
        uint32_t x[4];
        load_matrices(x, piece_of(stage.source, warp_row + i * 16 + lane % 16, k * 2 + lane / 16));
        COMNECK_UNROLL
        for (int j = 0; j < kWide; j++) {
          multiply_add<T>(sum[i][2 * j], x, weight[j][0], weight[j][1]);
          multiply_add<T>(sum[i][2 * j + 1], x, weight[j][2], weight[j][3]);
        }
      }
    }
  }

  wait_copies<0>();
  __syncthreads();  // nobody reads the stages any more
  COMNECK_DYNAMIC_SHARED(float, sums);
  COMNECK_UNROLL
  for (int i = 0; i < kTall; i++) {
    COMNECK_UNROLL
    for (int half = 0; half < 2; half++) {
      float *row = sums + (warp_row + i * 16 + half * 8 + lane / 4) * Tile::kPitch + warp_column + lane % 4 * 2;
      COMNECK_UNROLL
      for (int j = 0; j < kWide * 2; j++) *reinterpret_cast<float2 *>(row + j * 8) = {sum[i][j][half * 2], sum[i][j][half * 2 + 1]};
    }
  }
  __syncthreads();
  finish_rows<T, Tile::kColumns, Tile::kPitch, kThreads>(call, sums, first_row, rows_left, first_column, place, neighbours);
}

}  // namespace comneck::cuda

#endif
