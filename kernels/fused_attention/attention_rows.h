// What a warp does with the scores of its 16 queries, whichever instruction made them: 16 x 64 scores lie in the registers of its lanes as
// tensor cores leave them, group = lane / 4, pair = lane % 4 * 2:
//   scores[j][0], [1]   row group,     keys 8 j + pair, + 1        sum[j]: the same with channels in place of keys
//   scores[j][2], [3]   row group + 8, keys 8 j + pair, + 1
#ifndef COMNECK_KERNELS_ATTENTION_ROWS_H
#define COMNECK_KERNELS_ATTENTION_ROWS_H

#include "tensor_core.h"

namespace comneck::cuda {

constexpr int kDepth = 64;
constexpr int kTile = 64;            // keys of a step
constexpr int kPieces = kDepth / 8;  // of 16 bytes in a row
// log2(e) / sqrt(64): scores times this are exponents of 2.
constexpr float kScale = 0.18033688011112042f;

// Rows of 64 elements, eight pieces of 16 bytes; piece p of row r lies at place p ^ (r % 8), so that the eight rows of an 8 x 8 matrix fall into
// different banks. What TMA calls a swizzle of 128 bytes, where rows begin at a multiple of 1024.
__device__ inline uint16_t *piece_of(uint16_t (*tile)[kDepth], int row, int piece) { return &tile[row][(piece ^ (row % 8)) * 8]; }

// Of the four lanes that share a row.
__device__ inline float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, 2));
}
__device__ inline float row_sum(float x) {
  x = x + __shfl_xor_sync(0xFFFFFFFFu, x, 1);
  return x + __shfl_xor_sync(0xFFFFFFFFu, x, 2);
}

// Scores of keys from `left` on, which are none.
__device__ inline void mask_behind(float (&scores)[kTile / 8][4], int32_t left) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  COMNECK_UNROLL
  for (int j = 0; j < kTile / 8; j++) {
    COMNECK_UNROLL
    for (int i = 0; i < 4; i++) {
      if (j * 8 + lane % 4 * 2 + i % 2 >= left) scores[j][i] = -INFINITY;
    }
  }
}

// Scores become weights, 2^(scores - most); most and total (this lane's part) of the rows go on, and what they had before counts `shrink`.
// Subtracted first, multiplied then: one fmaf would be off by the rounding of most * kScale, which is no small number where most is large.
__device__ inline void weigh(float (&scores)[kTile / 8][4], float (&most)[2], float (&total)[2], float (&shrink)[2]) {
  float shift[2];
  COMNECK_UNROLL
  for (int row = 0; row < 2; row++) {
    float here = -INFINITY;
    COMNECK_UNROLL
    for (int j = 0; j < kTile / 8; j++) here = fmaxf(here, fmaxf(scores[j][2 * row], scores[j][2 * row + 1]));
    const float before = most[row];
    most[row] = fmaxf(before, row_max(here));
    shift[row] = most[row] == -INFINITY ? 0.0f : most[row];  // minus infinity less minus infinity would be NaN
    shrink[row] = exp2_fast((before - shift[row]) * kScale);
    total[row] = total[row] * shrink[row];
  }
  COMNECK_UNROLL
  for (int j = 0; j < kTile / 8; j++) {
    COMNECK_UNROLL
    for (int i = 0; i < 4; i++) {
      scores[j][i] = exp2_fast((scores[j][i] - shift[i / 2]) * kScale);
      total[i / 2] = total[i / 2] + scores[j][i];
    }
  }
}

__device__ inline void rescale(float (&sum)[kDepth / 8][4], const float (&shrink)[2]) {
  COMNECK_UNROLL
  for (int j = 0; j < kDepth / 8; j++) {
    COMNECK_UNROLL
    for (int i = 0; i < 4; i++) sum[j][i] = sum[j][i] * shrink[i / 2];
  }
}

// Weights of 16 keys: where the scores of two matrices lie is where a product wants its left side.
template <class T>
__device__ inline void pack_weights(uint32_t (&weight)[4], const float (&first)[4], const float (&second)[4]) {
  weight[0] = pack_pair<T>(first[0], first[1]);
  weight[1] = pack_pair<T>(first[2], first[3]);
  weight[2] = pack_pair<T>(second[0], second[1]);
  weight[3] = pack_pair<T>(second[2], second[3]);
}

// Divides and writes the warp's rows, those of them that exist, through its own 16 rows of shared memory, so that memory gets whole pieces.
// out: the first of them.
template <class T>
__device__ inline void store_rows(uint16_t (*rows)[kDepth], const float (&total)[2], const float (&sum)[kDepth / 8][4], uint16_t *out,
                                  int64_t stride, int32_t exist) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  COMNECK_UNROLL
  for (int row = 0; row < 2; row++) {
    const float inverse = 1.0f / row_sum(total[row]);
    COMNECK_UNROLL
    for (int j = 0; j < kDepth / 8; j++) {
      *reinterpret_cast<uint32_t *>(piece_of(rows, lane / 4 + row * 8, j) + lane % 4 * 2) =
          pack_pair<T>(sum[j][2 * row] * inverse, sum[j][2 * row + 1] * inverse);
    }
  }
  __syncwarp();
  COMNECK_UNROLL
  for (int i = 0; i < 16 * kPieces / 32; i++) {
    const int row = i * 4 + lane / kPieces;
    const int piece = lane % kPieces;
    if (row >= exist) continue;
    *reinterpret_cast<uint4 *>(out + row * stride + piece * 8) = *reinterpret_cast<const uint4 *>(piece_of(rows, row, piece));
  }
}

}  // namespace comneck::cuda

#endif
