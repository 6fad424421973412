// A block computes 64 queries of one head of one image, a warp 16 of them. Keys and values go by in tiles of 64 through two buffers each:
// while one tile is multiplied, the next one is on its way (cp.async). Shared memory: queries 8 KiB, keys and values 2 x 8 KiB each.
//
//   scores (16 x 64 a warp) = queries * keys^T                     mma.sync, f32
//   most, total: of each row, held by the four lanes that share it  online softmax, base 2
//   sum (16 x 64 a warp) = sum * 2^(old most - most) + 2^(scores - most) * values
//
// Tokens beyond the last: their rows are zeros in shared memory (0 times what lies there must
// not be NaN), their scores minus infinity. Warps without a query, and groups of 16 keys without a key, are skipped.
#include "fused_attention/fused_attention.h"

#include "fused_attention/attention_rows.h"

namespace comneck::cuda {
namespace {

constexpr int kWarps = kTile / 16;  // a block has as many queries as a step has keys
constexpr int kThreads = kWarps * 32;

using Tile = uint16_t[kTile][kDepth];

// Rows first .. first + 63 of a head, as far as they exist, else zeros.
__device__ inline void load_tile(Tile &tile, const uint16_t *from, int64_t stride, int32_t first, int32_t tokens) {
  COMNECK_UNROLL
  for (int i = 0; i < kTile * kPieces / kThreads; i++) {
    const int e = static_cast<int>(threadIdx.x) + i * kThreads;
    const int row = e / kPieces;
    const int piece = e % kPieces;
    const bool exists = first + row < tokens;
    copy_16(piece_of(tile, row, piece), from + (exists ? (first + row) * stride : 0) + piece * 8, exists ? 16 : 0);
  }
}

// One tile of keys and values for the 16 queries of a warp. left: keys of this tile that exist, at least 1.
template <class T>
__device__ inline void attend_tile(const uint32_t (&query)[kDepth / 16][4], Tile &keys, Tile &values, int32_t left, float (&most)[2],
                                   float (&total)[2], float (&sum)[kDepth / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  float scores[kTile / 8][4];
  COMNECK_UNROLL
  for (int j = 0; j < kTile / 16; j++) {  // 16 keys
    COMNECK_UNROLL
    for (int half = 0; half < 2; half++) {
      COMNECK_UNROLL
      for (int i = 0; i < 4; i++) scores[2 * j + half][i] = 0.0f;
    }
    if (j * 16 < left) {
      COMNECK_UNROLL
      for (int k = 0; k < kDepth / 16; k++) {
        uint32_t key[4];
        load_matrices(key, piece_of(keys, j * 16 + lane / 16 * 8 + lane % 8, k * 2 + lane / 8 % 2));
        multiply_add<T>(scores[2 * j], query[k], key[0], key[1]);
        multiply_add<T>(scores[2 * j + 1], query[k], key[2], key[3]);
      }
    }
  }
  if (left < kTile) mask_behind(scores, left);
  float shrink[2];
  weigh(scores, most, total, shrink);
  rescale(sum, shrink);
  COMNECK_UNROLL
  for (int j = 0; j < kTile / 16; j++) {
    if (j * 16 >= left) continue;
    uint32_t weight[4];
    pack_weights<T>(weight, scores[2 * j], scores[2 * j + 1]);
    COMNECK_UNROLL
    for (int d = 0; d < kDepth / 16; d++) {
      uint32_t value[4];
      load_matrices<true>(value, piece_of(values, j * 16 + lane % 16, d * 2 + lane / 16));
      multiply_add<T>(sum[2 * d], weight, value[0], value[1]);
      multiply_add<T>(sum[2 * d + 1], weight, value[2], value[3]);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) attend_fused(const uint16_t *qkv, int64_t qkv_stride, uint16_t *to, int64_t to_stride,
                                                         int32_t tokens) {
  COMNECK_SHARED(queries, Tile);
  COMNECK_SHARED(keys, Tile[2]);
  COMNECK_SHARED(values, Tile[2]);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp_row = static_cast<int>(threadIdx.x / 32) * 16;  // in the tile
  const int32_t width = static_cast<int32_t>(gridDim.y) * kDepth;
  const int32_t first = static_cast<int32_t>(blockIdx.x) * kTile;
  const int64_t image_row = int64_t{blockIdx.z} * tokens;
  // q[t] = qkv[image][t][0][head], k[t] = qkv[image][t][1][head], v[t] = qkv[image][t][2][head]
  const uint16_t *q = qkv + image_row * qkv_stride + blockIdx.y * kDepth;
  const uint16_t *k = q + width;
  const uint16_t *v = k + width;
  const bool works = first + warp_row < tokens;  // the whole warp or none of it

  load_tile(queries, q, qkv_stride, first, tokens);
  load_tile(keys[0], k, qkv_stride, 0, tokens);
  load_tile(values[0], v, qkv_stride, 0, tokens);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  uint32_t query[kDepth / 16][4];
  COMNECK_UNROLL
  for (int d = 0; d < kDepth / 16; d++) load_matrices(query[d], piece_of(queries, warp_row + lane % 16, d * 2 + lane / 16));

  float most[2] = {-INFINITY, -INFINITY};  // of rows lane / 4 and lane / 4 + 8
  float total[2] = {0.0f, 0.0f};           // this lane's part
  float sum[kDepth / 8][4];
  COMNECK_UNROLL
  for (int j = 0; j < kDepth / 8; j++) {
    COMNECK_UNROLL
    for (int i = 0; i < 4; i++) sum[j][i] = 0.0f;
  }
  for (int32_t at = 0, buffer = 0; at < tokens; at += kTile, buffer ^= 1) {
    if (at + kTile < tokens) {
      load_tile(keys[buffer ^ 1], k, qkv_stride, at + kTile, tokens);
      load_tile(values[buffer ^ 1], v, qkv_stride, at + kTile, tokens);
      commit_copies();
    }
    if (works) attend_tile<T>(query, keys[buffer], values[buffer], tokens - at, most, total, sum);
    wait_copies<0>();
    __syncthreads();  // the next tile is there, and this one is done with
  }
  if (!works) return;

  uint16_t *out = to + image_row * to_stride + blockIdx.y * kDepth;
  store_rows<T>(queries + warp_row, total, sum, out + (first + warp_row) * to_stride, to_stride, tokens - first - warp_row);
}

bool has_whole_pieces(const Side &side) { return reinterpret_cast<uintptr_t>(side.data) % 16 == 0 && side.stride % 8 == 0; }

}  // namespace

bool fused_attention_takes(const Side &qkv, const Side &to, int32_t depth) {
  return depth == kDepth && qkv.type == to.type && (qkv.type == COMNECK_BF16 || qkv.type == COMNECK_F16) && has_whole_pieces(qkv) &&
         has_whole_pieces(to);
}

cudaError_t fused_attention(const Side &qkv, const Side &to, int32_t images, int32_t tokens, int32_t heads, int32_t depth,
                            AttentionKernel kernel, int32_t multiprocessors, cudaStream_t stream) {
  if (!fused_attention_takes(qkv, to, depth) || images < 0 || tokens < 0 || heads < 1 || heads > 65535 || images > 65535 ||
      tokens > INT32_MAX - 2 * kTile) {
    return cudaErrorInvalidValue;
  }
  if (images == 0 || tokens == 0) return cudaSuccess;
  const auto tiles = static_cast<unsigned>((tokens + kTile - 1) / kTile);
  if (kernel != AttentionKernel::kMma) {
    // Two groups read keys and values half as often, where that leaves every multiprocessor a block.
    const bool many = int64_t{images} * heads * ((tiles + 1) / 2) >= multiprocessors;
    const int32_t groups = kernel == AttentionKernel::kWgmma ? (many ? 2 : 1) : kernel == AttentionKernel::kWgmma64 ? 1 : 2;
    return fused_attention_wgmma(qkv, to, images, tokens, heads, groups, stream);
  }
  const dim3 grid(tiles, static_cast<unsigned>(heads), static_cast<unsigned>(images));
  return launch(qkv.type == COMNECK_BF16 ? attend_fused<Bf16> : attend_fused<F16>, grid, kThreads, 0, stream,
                static_cast<const uint16_t *>(qkv.data), qkv.stride, static_cast<uint16_t *>(const_cast<void *>(to.data)), to.stride, tokens);
}

}  // namespace comneck::cuda
