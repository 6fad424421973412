// Fused self-attention of one head: Q (N,d), K (N,d), V (N,d) -> scores (24,N) -> softmax -> out (24,d), 24 queries at
// a time.
//
// Both products are the same small matrix product, a register tile of R rows x V vectors:
//   tile[r][c] = chain over k ascending, from 0, of fma(a[r][k], b[k][c], tile[r][c])
// with a = Q, b = K transposed for the scores, and a = e, b = V for the output. b is packed once for each head, in
// panels of at most kVectors vectors of columns: panel p holds columns p * kColumns .. and is [k][its width], so that a
// tile walks through memory in order. Columns beyond the end are zero. A panel of K (64 x 64 floats) stays in the first
// cache while the 24 queries pass over it.
//
// Templates over Lanes; each instruction set has its own copy.
#ifndef COMNECK_VISION_ATTENTION_H
#define COMNECK_VISION_ATTENTION_H

#include <cstdint>
#include <cstring>

#include "canonical_math.h"
#include "vision/rows.h"
#include "vision/vision.h"

namespace comneck {
namespace {

// Register tile: 6 x 4 of AVX-512's 32 registers, 6 x 2 of AVX2's 16.
template <class L>
struct AttentionTile {
  static constexpr int kRows = L::kWidth == 1 ? 2 : 6;
  static constexpr int kVectors = L::kWidth == 8 ? 2 : 4;
  static constexpr int64_t kColumns = kVectors * L::kWidth;
};

inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// What every part needs to know about the shapes.
struct AttentionShape {
  explicit AttentionShape(const AttentionCall &call)
      : keys(round_up(call.tokens, 16)),
        depth(round_up(call.depth, 16)),
        blocks((call.tokens + kAttentionRows - 1) / kAttentionRows) {}

  int64_t keys;    // N rounded up to whole vectors of any width
  int64_t depth;   // d likewise
  int64_t blocks;  // items of a head
};

// Start of the channels of one head in one row of qkv; part 0 is Q, 1 is K, 2 is V.
inline const void *head_row(const AttentionCall &call, int64_t image, int64_t head, int64_t part, int64_t token) {
  int64_t channel = (part * call.heads + head) * call.depth;
  const void *start = row(call.qkv, image * call.tokens + token);
  return call.qkv.type == kF32 ? static_cast<const void *>(static_cast<const float *>(start) + channel)
                               : static_cast<const void *>(static_cast<const uint16_t *>(start) + channel);
}

// ----------------------------------------------------------------------------------------------- one product

// a: rows of stride lda. b: [depth][V vectors]. c: rows of stride ldc.
template <class L, int R, int V>
inline void chain_tile(const float *a, int64_t lda, const float *b, int64_t depth, float *c, int64_t ldc) {
  using F = typename L::Float;
  F acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      acc[r][v] = L::zero();
    }
  }
  for (int64_t k = 0; k < depth; k++) {
    F column[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      column[v] = L::load(b + v * L::kWidth);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      F x = L::set(a[r * lda + k]);
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) {
        acc[r][v] = L::fma(x, column[v], acc[r][v]);
      }
    }
    b += V * L::kWidth;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      L::store(c + r * ldc + v * L::kWidth, acc[r][v]);
    }
  }
}

template <class L, int V, int R = AttentionTile<L>::kRows>
inline void chain_rows(int64_t rows, const float *a, int64_t lda, const float *b, int64_t depth, float *c,
                       int64_t ldc) {
  if constexpr (R > 0) {
    if (rows >= R) {
      chain_tile<L, R, V>(a, lda, b, depth, c, ldc);
      if (rows > R) {
        chain_rows<L, V>(rows - R, a + R * lda, lda, b, depth, c + R * ldc, ldc);
      }
    } else {
      chain_rows<L, V, R - 1>(rows, a, lda, b, depth, c, ldc);
    }
  }
}

// c (rows, columns) = a (rows, depth) * b (depth, columns), b in panels; columns is a multiple of the vector's width.
template <class L>
inline void chain_product(int64_t rows, int64_t columns, const float *a, int64_t lda, const float *b, int64_t depth,
                          float *c, int64_t ldc) {
  for (int64_t at = 0; at < columns; at += AttentionTile<L>::kColumns) {
    const float *panel = b + at * depth;
    switch ((columns - at) / L::kWidth) {
      case 1:
        chain_rows<L, 1>(rows, a, lda, panel, depth, c + at, ldc);
        break;
      case 2:
        chain_rows<L, 2>(rows, a, lda, panel, depth, c + at, ldc);
        break;
      case 3:
        chain_rows < L,
            AttentionTile<L>::kVectors<3 ? AttentionTile<L>::kVectors : 3>(rows, a, lda, panel, depth, c + at, ldc);
        break;
      default:
        chain_rows<L, AttentionTile<L>::kVectors>(rows, a, lda, panel, depth, c + at, ldc);
    }
  }
}

// Width of the panel that starts at a column.
template <class L>
inline int64_t panel_width(int64_t columns, int64_t at) {
  int64_t rest = columns - at;
  return rest < AttentionTile<L>::kColumns ? rest : AttentionTile<L>::kColumns;
}

// ----------------------------------------------------------------------------------------------- softmax

// One row of scores (N, up to keys in memory): score -> e = exp(scale * score - max); columns N .. keys become 0.
// Returns 1 / sum(e).
template <class L>
inline float softmax_row(float *s, int64_t tokens, int64_t keys, float scale) {
  using F = typename L::Float;
  constexpr int kVectors = 16 / L::kWidth;
  for (int64_t j = tokens; j < keys; j++) {
    s[j] = -__builtin_inff();
  }
  F max[kVectors];
  for (int v = 0; v < kVectors; v++) {
    max[v] = L::set(-__builtin_inff());
  }
  for (int64_t j = 0; j < keys; j += 16) {
    for (int v = 0; v < kVectors; v++) {
      max[v] = L::max(max[v], L::load(s + j + v * L::kWidth));
    }
  }
  alignas(64) float lanes[16];
  for (int v = 0; v < kVectors; v++) {
    L::store(lanes + v * L::kWidth, max[v]);
  }
  float most = lanes[0];
  for (int i = 1; i < 16; i++) {
    most = most > lanes[i] ? most : lanes[i];
  }
  most = most * scale;  // the largest of the rounded products, because rounding keeps the order and scale is positive
  F sum[kVectors];
  for (int v = 0; v < kVectors; v++) {
    sum[v] = L::zero();
  }
  for (int64_t j = 0; j < keys; j += 16) {
    for (int v = 0; v < kVectors; v++) {
      F x = L::mul(L::load(s + j + v * L::kWidth), L::set(scale));
      F e = canonical::exp<L, true>(L::sub(x, L::set(most)));
      L::store(s + j + v * L::kWidth, e);
      sum[v] = L::add(sum[v], e);
    }
  }
  for (int v = 0; v < kVectors; v++) {
    L::store(lanes + v * L::kWidth, sum[v]);
  }
  return 1.0f / total(lanes);
}

// destination[i][head * depth + d] = x[d] * inverse
template <class L>
inline void store_output(const AttentionCall &call, int64_t image, int64_t head, int64_t token, const float *x,
                         float inverse) {
  void *y = row(call.destination, image * call.tokens + token);
  for (int64_t d = 0; d < call.depth; d += L::kWidth) {
    int64_t n = call.depth - d;
    typename L::Float v = L::mul(L::load(x + d), L::set(inverse));
    store_row<L>(y, call.destination.type, head * call.depth + d, n, v);
  }
}

// ----------------------------------------------------------------------------------------------- canonical f32

template <class L>
int64_t attention_packed_bytes(const AttentionCall &call) {
  AttentionShape shape(call);
  return call.images * call.heads * 4 * (shape.keys * call.depth + call.tokens * shape.depth);
}

// q (24, depth), scores (24, keys), output (24, depth)
template <class L>
int64_t attention_thread_bytes(const AttentionCall &call) {
  AttentionShape shape(call);
  return kAttentionRows * 4 * (shape.depth + shape.keys + shape.depth);
}

template <class L>
void attention_pack(const AttentionCall &call, int64_t item) {
  AttentionShape shape(call);
  const int64_t image = item / call.heads;
  const int64_t head = item % call.heads;
  float *keys = static_cast<float *>(call.packed) + item * (shape.keys * call.depth + call.tokens * shape.depth);
  float *values = keys + shape.keys * call.depth;

  // keys: panels of [d][columns], column j is token j
  for (int64_t at = 0; at < shape.keys; at += AttentionTile<L>::kColumns) {
    const int64_t width = panel_width<L>(shape.keys, at);
    float *panel = keys + at * call.depth;
    for (int64_t j = 0; j < width; j += L::kWidth) {
      for (int64_t d = 0; d < call.depth; d += L::kWidth) {
        typename L::Float square[L::kWidth];
        const int64_t n = call.depth - d;
        for (int i = 0; i < L::kWidth; i++) {
          const int64_t token = at + j + i;
          square[i] =
              token < call.tokens ? load_row<L>(head_row(call, image, head, 1, token), call.qkv.type, d, n) : L::zero();
        }
        L::transpose(square);
        for (int64_t i = 0; i < (n < L::kWidth ? n : L::kWidth); i++) {
          L::store(panel + (d + i) * width + j, square[i]);
        }
      }
    }
  }
  // values: panels of [j][columns], column d is channel d of the head
  for (int64_t j = 0; j < call.tokens; j++) {
    const void *v = head_row(call, image, head, 2, j);
    for (int64_t at = 0; at < shape.depth; at += AttentionTile<L>::kColumns) {
      const int64_t width = panel_width<L>(shape.depth, at);
      float *to = values + at * call.tokens + j * width;
      for (int64_t d = 0; d < width; d += L::kWidth) {
        int64_t n = call.depth - at - d;
        L::store(to + d, n > 0 ? load_row<L>(v, call.qkv.type, at + d, n) : L::zero());
      }
    }
  }
}

template <class L>
void attention_attend(const AttentionCall &call, int64_t item, void *thread_scratch) {
  AttentionShape shape(call);
  const int64_t image_head = item / shape.blocks;
  const int64_t image = image_head / call.heads;
  const int64_t head = image_head % call.heads;
  const int64_t first = item % shape.blocks * kAttentionRows;
  const int64_t rows = call.tokens - first < kAttentionRows ? call.tokens - first : kAttentionRows;
  const float *keys =
      static_cast<const float *>(call.packed) + image_head * (shape.keys * call.depth + call.tokens * shape.depth);
  const float *values = keys + shape.keys * call.depth;
  float *queries = static_cast<float *>(thread_scratch);
  float *scores = queries + kAttentionRows * shape.depth;
  float *output = scores + kAttentionRows * shape.keys;

  for (int64_t r = 0; r < rows; r++) {
    const void *q = head_row(call, image, head, 0, first + r);
    for (int64_t d = 0; d < call.depth; d += L::kWidth) {
      L::store(queries + r * shape.depth + d, load_row<L>(q, call.qkv.type, d, call.depth - d));
    }
  }
  chain_product<L>(rows, shape.keys, queries, shape.depth, keys, call.depth, scores, shape.keys);
  float inverse[kAttentionRows];
  for (int64_t r = 0; r < rows; r++) {
    inverse[r] = softmax_row<L>(scores + r * shape.keys, call.tokens, shape.keys, call.scale);
  }
  chain_product<L>(rows, shape.depth, scores, shape.keys, values, call.tokens, output, shape.depth);
  for (int64_t r = 0; r < rows; r++) {
    store_output<L>(call, image, head, first + r, output + r * shape.depth, inverse[r]);
  }
}

template <class L>
inline constexpr AttentionKernels kCanonicalAttention = {attention_packed_bytes<L>, attention_thread_bytes<L>,
                                                         attention_pack<L>, attention_attend<L>};

template <class L>
inline constexpr VisionKernels kVisionKernels = {
    layer_norm<L>,         gate<L>, add<L>, scale<L>, copy<L>, embed<L>, normalize, to_pixels, kCanonicalAttention<L>,
    kCanonicalAttention<L>};

}  // namespace
}  // namespace comneck

#endif
