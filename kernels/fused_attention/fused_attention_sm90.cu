// The same with wgmma and TMA. A group of four warps has 64 queries of one head of one image, a block one or two groups, which share keys and
// values. Those come 64 at a time through two buffers each; the block's first thread asks TMA for them, mbarriers say that they are there.
// Queries lie in registers, and so do weights, as left sides of products. As in FlashAttention-3 (arXiv 2407.08608, section 3.2), the scores of
// a tile are multiplied before the values of the tile before, so that tensor cores have these to do while the scores become weights:
//
//   scores(0); weights(0)
//   for t = 1, 2, ...: start scores(t); start sum += weights(t - 1) * values(t - 1); weights(t) meanwhile; sum *= 2^(old most - most)
//   sum += weights(last) * values(last)
//
// At the start of round t keys t - 1 and values t - 2 are done with: keys t + 1 and values t take their places. Tokens beyond the last are zeros,
// which TMA puts there because the map's images end with their last token.
#include "fused_attention/attention_rows.h"
#include "fused_attention/fused_attention.h"
#include "hopper.h"

namespace comneck::cuda {
namespace {

constexpr int kGroupThreads = 128;
[[maybe_unused]] constexpr uint32_t kTileBytes = kTile * kDepth * 2;

using SwizzledTile = EightRows[kTile / 8];

template <int kGroups>
struct Memory {
  SwizzledTile queries[kGroups];
  SwizzledTile keys[2];
  SwizzledTile values[2];
  Barrier queries_came;
  Barrier keys_came[2];
  Barrier values_came[2];
};

// What a warp keeps.
struct Rows {
  uint32_t query[kDepth / 16][4];
  uint32_t weights[kTile / 16][4];
  float scores[kTile / 8][4];
  float sum[kDepth / 8][4];
  float most[2];   // of rows lane / 4 and lane / 4 + 8
  float total[2];  // this lane's part
};

// Starts scores = queries * keys^T, of the first kKeys. The compiler overlaps products only where no branch is between them and what orders and
// awaits them: what depends on the number of keys is decided outside, by kKeys.
template <class T, int kKeys>
__device__ __forceinline__ void start_scores(Rows &rows, const SwizzledTile &keys) {
  COMNECK_UNROLL
  for (int k = 0; k < kDepth / 16; k++) multiply_add_group<T, kKeys, false>(rows.scores, rows.query[k], &keys[0].element[0][k * 16], k > 0);
  commit_products();
}

// Starts sum += weights * values.
template <class T, int kKeys>
__device__ __forceinline__ void start_values(Rows &rows, const SwizzledTile &values) {
  COMNECK_UNROLL
  for (int j = 0; j < kKeys / 16; j++) multiply_add_group<T, 64, true>(rows.sum, rows.weights[j], &values[j * 2], true);
  commit_products();
}

template <class T, int kKeys>
__device__ __forceinline__ void pack(Rows &rows) {
  COMNECK_UNROLL
  for (int j = 0; j < kKeys / 16; j++) pack_weights<T>(rows.weights[j], rows.scores[2 * j], rows.scores[2 * j + 1]);
}

// Weights of the first tile. left: keys of the tile that exist, no more than kKeys.
template <class T, int kKeys>
__device__ __forceinline__ void first_tile(Rows &rows, const SwizzledTile &keys, int32_t left) {
  pin(rows.scores);
  order_products();
  start_scores<T, kKeys>(rows, keys);
  wait_products<0>();
  pin(rows.scores);
  if (left < kTile) mask_behind(rows.scores, left);
  float shrink[2];
  weigh(rows.scores, rows.most, rows.total, shrink);
  pack<T, kKeys>(rows);
}

// Weights of a tile, while the sum gets the whole tile before.
template <class T, int kKeys>
__device__ __forceinline__ void next_tile(Rows &rows, const SwizzledTile &keys, const SwizzledTile &values_before, int32_t left) {
  pin(rows.scores);
  pin(rows.sum);
  order_products();
  start_scores<T, kKeys>(rows, keys);
  start_values<T, kTile>(rows, values_before);
  wait_products<1>();
  pin(rows.scores);
  if (left < kTile) mask_behind(rows.scores, left);
  float shrink[2];
  weigh(rows.scores, rows.most, rows.total, shrink);
  wait_products<0>();
  pin(rows.sum);
  rescale(rows.sum, shrink);
  pack<T, kKeys>(rows);
}

template <class T, int kKeys>
__device__ __forceinline__ void last_values(Rows &rows, const SwizzledTile &values) {
  pin(rows.sum);
  order_products();
  start_values<T, kKeys>(rows, values);
  wait_products<0>();
  pin(rows.sum);
}

template <class T, int kGroups>
__global__ void __launch_bounds__(kGroups *kGroupThreads, 1)
    attend_wgmma(const __grid_constant__ TensorMap qkv, uint16_t *to, int64_t to_stride, int32_t tokens) {
#if defined(COMNECK_SM90A_BODY)
  COMNECK_DYNAMIC_SHARED(Memory<kGroups>, memory);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int group = static_cast<int>(threadIdx.x) / kGroupThreads;
  const int warp_row = static_cast<int>(threadIdx.x) % kGroupThreads / 32 * 16;  // in the group's tile
  const bool leads = threadIdx.x == 0;
  const auto width = static_cast<int32_t>(gridDim.y) * kDepth;
  const auto channel = static_cast<int32_t>(blockIdx.y) * kDepth;
  const auto image = static_cast<int32_t>(blockIdx.z);
  const int32_t first = (static_cast<int32_t>(blockIdx.x) * kGroups + group) * kTile;  // query of the group
  const int32_t tiles = (tokens - 1) / kTile + 1;
  const bool works = first < tokens;  // the whole group or none of it; of the first group all do

  const auto load_keys = [&](int32_t tile) {
    expect_bytes(&memory->keys_came[tile % 2], kTileBytes);
    load_box(qkv, memory->keys[tile % 2], &memory->keys_came[tile % 2], width + channel, tile * kTile, image);
  };
  const auto load_values = [&](int32_t tile) {
    expect_bytes(&memory->values_came[tile % 2], kTileBytes);
    load_box(qkv, memory->values[tile % 2], &memory->values_came[tile % 2], 2 * width + channel, tile * kTile, image);
  };
  // Of tile t in its buffer's barrier: each phase is one tile.
  const auto parity = [](int32_t tile) { return static_cast<uint32_t>(tile / 2 % 2); };

  if (leads) {
    init_barrier(&memory->queries_came, 1);
    for (int i = 0; i < 2; i++) {
      init_barrier(&memory->keys_came[i], 1);
      init_barrier(&memory->values_came[i], 1);
    }
    publish_barriers();
    expect_bytes(&memory->queries_came, kGroups * kTileBytes);
    for (int g = 0; g < kGroups; g++) {
      load_box(qkv, memory->queries[g], &memory->queries_came, channel, (static_cast<int32_t>(blockIdx.x) * kGroups + g) * kTile, image);
    }
    load_keys(0);
    load_values(0);
    if (tiles > 1) {
      load_keys(1);
      load_values(1);
    }
  }
  __syncthreads();

  // Keys t - 1 and values t - 2 are done with: what takes their places is asked for.
  const auto start_round = [&](int32_t t) {
    __syncthreads();
    if (!leads) return;
    if (t + 1 < tiles) load_keys(t + 1);
    if (t >= 2) load_values(t);
  };
  if (kGroups > 1 && !works) {
    for (int32_t t = 1; t < tiles; t++) start_round(t);
    return;
  }

  uint16_t(*queries)[kDepth] = memory->queries[group][0].element;
  Rows rows;
  wait_barrier(&memory->queries_came, 0);
  COMNECK_UNROLL
  for (int d = 0; d < kDepth / 16; d++) load_matrices(rows.query[d], piece_of(queries, warp_row + lane % 16, d * 2 + lane / 16));
  COMNECK_UNROLL
  for (int row = 0; row < 2; row++) {
    rows.most[row] = -INFINITY;
    rows.total[row] = 0.0f;
  }
  COMNECK_UNROLL
  for (int j = 0; j < kDepth / 8; j++) {
    COMNECK_UNROLL
    for (int i = 0; i < 4; i++) rows.sum[j][i] = rows.scores[j][i] = 0.0f;
  }

  const auto keys_of = [&](int32_t t) -> const SwizzledTile & {
    wait_barrier(&memory->keys_came[t % 2], parity(t));
    return memory->keys[t % 2];
  };
  const auto values_of = [&](int32_t t) -> const SwizzledTile & {
    wait_barrier(&memory->values_came[t % 2], parity(t));
    return memory->values[t % 2];
  };
  const int32_t last = tiles - 1;
  const int32_t left = tokens - last * kTile;  // keys of the last tile
  if (last > 0) {
    first_tile<T, kTile>(rows, keys_of(0), kTile);
    COMNECK_UNROLL_BY(1)
    for (int32_t t = 1; t < last; t++) {
      start_round(t);
      next_tile<T, kTile>(rows, keys_of(t), values_of(t - 1), kTile);
    }
    start_round(last);
    if (left > 16) {
      next_tile<T, kTile>(rows, keys_of(last), values_of(last - 1), left);
    } else {
      next_tile<T, 16>(rows, keys_of(last), values_of(last - 1), left);
    }
  } else if (left > 16) {
    first_tile<T, kTile>(rows, keys_of(0), left);
  } else {
    first_tile<T, 16>(rows, keys_of(0), left);
  }
  if (left > 16) {
    last_values<T, kTile>(rows, values_of(last));
  } else {
    last_values<T, 16>(rows, values_of(last));
  }
  uint16_t *out = to + (int64_t{image} * tokens + first + warp_row) * to_stride + channel;
  store_rows<T>(queries + warp_row, rows.total, rows.sum, out, to_stride, tokens - first - warp_row);
#else
  __trap();  // has_wgmma says that nobody comes here
#endif
}

template <class T, int kGroups>
cudaError_t launch_groups(const TensorMap &map, const Side &to, int32_t images, int32_t tokens, int32_t heads, cudaStream_t stream) {
  constexpr size_t kBytes = sizeof(Memory<kGroups>);
  if (const cudaError_t error = allow_shared(attend_wgmma<T, kGroups>, kBytes); error != cudaSuccess) return error;
  const dim3 grid(static_cast<unsigned>((tokens + kGroups * kTile - 1) / (kGroups * kTile)), static_cast<unsigned>(heads),
                  static_cast<unsigned>(images));
  return launch(attend_wgmma<T, kGroups>, grid, kGroups * kGroupThreads, kBytes, stream, map, static_cast<uint16_t *>(const_cast<void *>(to.data)),
                to.stride, tokens);
}

}  // namespace

cudaError_t fused_attention_wgmma(const Side &qkv, const Side &to, int32_t images, int32_t tokens, int32_t heads, int32_t groups,
                                  cudaStream_t stream) {
  if (!has_wgmma() || (groups != 1 && groups != 2)) return cudaErrorInvalidValue;
  TensorMap map;
  if (const cudaError_t error = map_tokens(&map, qkv.data, qkv.type, images, tokens, int64_t{3} * heads * kDepth, qkv.stride, kTile);
      error != cudaSuccess) {
    return error;
  }
  if (qkv.type == COMNECK_BF16) {
    return groups == 1 ? launch_groups<Bf16, 1>(map, to, images, tokens, heads, stream) : launch_groups<Bf16, 2>(map, to, images, tokens, heads, stream);
  }
  return groups == 1 ? launch_groups<F16, 1>(map, to, images, tokens, heads, stream) : launch_groups<F16, 2>(map, to, images, tokens, heads, stream);
}

}  // namespace comneck::cuda
