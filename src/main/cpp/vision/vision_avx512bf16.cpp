// Attention with bf16 products, for runs that asked for bf16: like attention.h, but k runs over pairs of bf16, which
// one instruction multiplies and adds to an f32 sum. Scores, softmax and sums stay f32; e is rounded to bf16 for its
// product with V.
//
//   Q: pairs (d, d+1) of a row, as they lie in qkv       K: panels of [d/2][columns] pairs
//   e: pairs (j, j+1) of a row                           V: panels of [j/2][columns] pairs
#include "vision/attention.h"

namespace comneck {
namespace {

using L = Avx512Lanes;
constexpr int64_t kColumns = AttentionTile<L>::kColumns;

inline int64_t pairs(int64_t n) { return (n + 1) / 2; }

template <int R, int V>
inline void pair_tile(const uint32_t *a, int64_t lda, const uint32_t *b, int64_t depth, float *c, int64_t ldc) {
  __m512 acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      acc[r][v] = _mm512_setzero_ps();
    }
  }
  for (int64_t k = 0; k < depth; k++) {
    __m512i column[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      column[v] = _mm512_loadu_si512(b + v * 16);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      __m512i x = _mm512_set1_epi32(static_cast<int>(a[r * lda + k]));
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) {
        acc[r][v] = _mm512_dpbf16_ps(acc[r][v], reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(column[v]));
      }
    }
    b += V * 16;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      _mm512_storeu_ps(c + r * ldc + v * 16, acc[r][v]);
    }
  }
}

template <int V, int R = AttentionTile<L>::kRows>
inline void pair_rows(int64_t rows, const uint32_t *a, int64_t lda, const uint32_t *b, int64_t depth, float *c,
                      int64_t ldc) {
  if constexpr (R > 0) {
    if (rows >= R) {
      pair_tile<R, V>(a, lda, b, depth, c, ldc);
      if (rows > R) {
        pair_rows<V>(rows - R, a + R * lda, lda, b, depth, c + R * ldc, ldc);
      }
    } else {
      pair_rows<V, R - 1>(rows, a, lda, b, depth, c, ldc);
    }
  }
}

inline void pair_product(int64_t rows, int64_t columns, const uint32_t *a, int64_t lda, const uint32_t *b,
                         int64_t depth, float *c, int64_t ldc) {
  for (int64_t at = 0; at < columns; at += kColumns) {
    const uint32_t *panel = b + at * depth;
    switch ((columns - at) / 16) {
      case 1:
        pair_rows<1>(rows, a, lda, panel, depth, c + at, ldc);
        break;
      case 2:
        pair_rows<2>(rows, a, lda, panel, depth, c + at, ldc);
        break;
      case 3:
        pair_rows<3>(rows, a, lda, panel, depth, c + at, ldc);
        break;
      default:
        pair_rows<4>(rows, a, lda, panel, depth, c + at, ldc);
    }
  }
}

// Words of one head: keys, then values.
inline int64_t head_words(const AttentionCall &call, const AttentionShape &shape) {
  return shape.keys * pairs(call.depth) + pairs(call.tokens) * shape.depth;
}

int64_t packed_bytes(const AttentionCall &call) {
  return call.images * call.heads * 4 * head_words(call, AttentionShape(call));
}

// queries (24, depth / 2) pairs, scores (24, keys), e (24, keys / 2) pairs, output (24, depth)
int64_t thread_bytes(const AttentionCall &call) {
  AttentionShape shape(call);
  return kAttentionRows * 4 * (shape.depth / 2 + shape.keys + shape.keys / 2 + shape.depth);
}

// n values as pairs of bf16, the last one with 0 when n is odd; words of padding up to a multiple of 8 words may be
// written.
inline void copy_pairs(const void *from, int32_t type, int64_t n, uint32_t *to) {
  for (int64_t d = 0; d < n; d += 16) {
    int64_t rest = n - d < 16 ? n - d : 16;
    __m256i x = type == kF32 ? reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(load_row<L>(from, type, d, rest)))
                             : _mm256_maskz_loadu_epi16(L::first_lanes(rest), static_cast<const uint16_t *>(from) + d);
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + d / 2), x);
  }
}

// 16 pairs from element d of a row of n elements; what lies beyond is 0.
inline __m512 load_pairs(const void *from, int32_t type, int64_t d, int64_t n) {
  int64_t rest = n - d;
  if (type == kBf16) {
    __mmask32 mask = rest >= 32 ? 0xFFFFFFFFu : (1u << rest) - 1u;
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, static_cast<const uint16_t *>(from) + d));
  }
  alignas(64) uint32_t words[16] = {};
  copy_pairs(static_cast<const float *>(from) + d, type, rest < 32 ? rest : 32, words);
  return _mm512_load_ps(words);
}

// n (at most 16) elements from element d of a row, one to a word.
inline __m512i load_words(const void *from, int32_t type, int64_t d, int64_t n) {
  if (type == kBf16) {
    __mmask16 mask = n >= 16 ? static_cast<__mmask16>(0xFFFF) : L::first_lanes(n);
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, static_cast<const uint16_t *>(from) + d));
  }
  return _mm512_cvtepu16_epi32(L::round_bf16(load_row<L>(from, type, d, n)));
}

void pack(const AttentionCall &call, int64_t item) {
  AttentionShape shape(call);
  const int64_t image = item / call.heads;
  const int64_t head = item % call.heads;
  const int64_t depth_pairs = pairs(call.depth);
  uint32_t *keys = static_cast<uint32_t *>(call.packed) + item * head_words(call, shape);
  uint32_t *values = keys + shape.keys * depth_pairs;

  for (int64_t at = 0; at < shape.keys; at += kColumns) {
    const int64_t width = panel_width<L>(shape.keys, at);
    uint32_t *panel = keys + at * depth_pairs;
    for (int64_t j = 0; j < width; j += 16) {
      for (int64_t d = 0; d < depth_pairs; d += 16) {
        __m512 square[16];
        for (int i = 0; i < 16; i++) {
          const int64_t token = at + j + i;
          square[i] = token < call.tokens
                          ? load_pairs(head_row(call, image, head, 1, token), call.qkv.type, 2 * d, call.depth)
                          : _mm512_setzero_ps();
        }
        L::transpose(square);
        for (int64_t i = 0; i < (depth_pairs - d < 16 ? depth_pairs - d : 16); i++) {
          _mm512_storeu_ps(panel + (d + i) * width + j, square[i]);
        }
      }
    }
  }
  for (int64_t j = 0; j < pairs(call.tokens); j++) {
    const void *even = head_row(call, image, head, 2, 2 * j);
    const void *odd = 2 * j + 1 < call.tokens ? head_row(call, image, head, 2, 2 * j + 1) : nullptr;
    for (int64_t at = 0; at < shape.depth; at += kColumns) {
      const int64_t width = panel_width<L>(shape.depth, at);
      uint32_t *to = values + at * pairs(call.tokens) + j * width;
      for (int64_t d = 0; d < width; d += 16) {
        int64_t n = call.depth - at - d;
        __m512i low = _mm512_setzero_si512();
        __m512i high = _mm512_setzero_si512();
        if (n > 0) {
          low = load_words(even, call.qkv.type, at + d, n);
          if (odd != nullptr) {
            high = load_words(odd, call.qkv.type, at + d, n);
          }
        }
        _mm512_storeu_si512(to + d, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
      }
    }
  }
}

void attend(const AttentionCall &call, int64_t item, void *thread_scratch) {
  AttentionShape shape(call);
  const int64_t image_head = item / shape.blocks;
  const int64_t image = image_head / call.heads;
  const int64_t head = image_head % call.heads;
  const int64_t first = item % shape.blocks * kAttentionRows;
  const int64_t rows = call.tokens - first < kAttentionRows ? call.tokens - first : kAttentionRows;
  const uint32_t *keys = static_cast<const uint32_t *>(call.packed) + image_head * head_words(call, shape);
  const uint32_t *values = keys + shape.keys * pairs(call.depth);
  uint32_t *queries = static_cast<uint32_t *>(thread_scratch);
  float *scores = reinterpret_cast<float *>(queries + kAttentionRows * shape.depth / 2);
  uint32_t *weights = reinterpret_cast<uint32_t *>(scores + kAttentionRows * shape.keys);
  float *output = reinterpret_cast<float *>(weights + kAttentionRows * shape.keys / 2);

  for (int64_t r = 0; r < rows; r++) {
    copy_pairs(head_row(call, image, head, 0, first + r), call.qkv.type, call.depth, queries + r * shape.depth / 2);
  }
  pair_product(rows, shape.keys, queries, shape.depth / 2, keys, pairs(call.depth), scores, shape.keys);
  float inverse[kAttentionRows];
  for (int64_t r = 0; r < rows; r++) {
    inverse[r] = softmax_row<L>(scores + r * shape.keys, call.tokens, shape.keys, call.scale);
    copy_pairs(scores + r * shape.keys, kF32, shape.keys, weights + r * shape.keys / 2);
  }
  pair_product(rows, shape.depth, weights, shape.keys / 2, values, pairs(call.tokens), output, shape.depth);
  for (int64_t r = 0; r < rows; r++) {
    store_output<L>(call, image, head, first + r, output + r * shape.depth, inverse[r]);
  }
}

constexpr VisionKernels with_bf16() {
  VisionKernels kernels = kVisionKernels<L>;
  kernels.attention_bf16 = {packed_bytes, thread_bytes, pack, attend};
  return kernels;
}

constexpr VisionKernels kKernels = with_bf16();

}  // namespace
}  // namespace comneck

const comneck::VisionKernels &comneck::vision_avx512bf16() { return kKernels; }
