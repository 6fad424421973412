// Everything between the matrix products: LayerNorm, attention, embedding, and the row-wise steps of codec and encoder.
//
// Each function takes a call, which says where the operands lie, and a range of rows or one item of work, so that any
// thread pool can split it; none allocates, throws or knows of threads. Plans check shapes before; here nothing is
// checked. In f32 all instruction sets give the same bits (docs/arithmetic.md); src/test/cpp/vision_test.cpp holds them
// to it.
//
// Rows: an activation (images, positions, channels) is images * positions rows of channels; row image * positions +
// position.
#ifndef COMNECK_VISION_VISION_H
#define COMNECK_VISION_VISION_H

#include <cstdint>

namespace comneck {

// Element types of rows: COMNECK_F32 and COMNECK_BF16.
inline constexpr int32_t kF32 = 0;
inline constexpr int32_t kBf16 = 1;

// Row r starts at element r * stride of data.
struct Rows {
  const void *data;
  int32_t type;    // kF32 or kBf16
  int64_t stride;  // elements from row to row, at least the channels
};

struct MutableRows {
  void *data;
  int32_t type;
  int64_t stride;
};

// destination[r][c] = fma((source[r][c] - mean[r]) * inverse[r], weight[c], bias[c])
// mean = sum / channels, inverse = 1 / sqrt(variance + epsilon), variance from a second pass. destination may be
// source.
struct LayerNormCall {
  Rows source;
  MutableRows destination;
  const float *weight;  // [channels]
  const float *bias;    // [channels]
  int64_t channels;     // 1 to 2^24
  float epsilon;
};

// destination = fma(a, sigmoid(b), x). Operands may be the destination.
struct GateCall {
  Rows a;
  Rows b;
  Rows x;
  MutableRows destination;
  int64_t channels;
};

// destination = a + b. Operands may be the destination.
struct AddCall {
  Rows a;
  Rows b;
  MutableRows destination;
  int64_t channels;
};

// destination[r][c] = source[r][c] * gains[r / positions][c]
struct ScaleCall {
  Rows source;
  MutableRows destination;
  const float *gains;
  int64_t gains_stride;  // from image to image
  int64_t positions;     // rows of one image
  int64_t channels;
};

// Row (image, p) of the destination is row (image, first + p) of the source, converted where the types differ (F32 to
// BF16: to nearest, ties to even). A plain copy has first = 0 and source_positions = positions.
struct CopyCall {
  Rows source;
  MutableRows destination;
  int64_t source_positions;  // rows of one image in the source
  int64_t positions;         // rows of one image in the destination
  int64_t first;
  int64_t channels;
};

// With a class token: destination[n][0] = class_token + table[0], destination[n][1 + p] = source[n][p] + table[1 + p];
// without one destination[n][p] = source[n][p] + table[p].
struct EmbedCall {
  Rows source;
  MutableRows destination;
  const float *class_token;  // [channels], or nullptr
  const float *table;        // [tokens][channels]
  int64_t tokens;            // rows of one image in the destination
  int64_t channels;
};

// destination[r][c] = table[c][pixels[r][c]], where normalize_table() has put (x / 255 - mean[c]) / deviation[c] for
// every x.
struct NormalizeCall {
  const uint8_t *pixels;
  int64_t pixels_stride;
  MutableRows destination;
  const float *table;  // [channels][256]
  int64_t channels;
};

// pixels[r][c] = floor(clamp(source[r][c], 0, 1) * 255 + 0.5); NaN gives 0.
struct ToPixelsCall {
  Rows source;
  uint8_t *pixels;
  int64_t pixels_stride;
  int64_t channels;
};

// Multi-head self-attention. qkv (B,N,3C), C = heads * depth -> destination (B,N,C). For each image and head:
//   Q[n][d] = qkv[n][head * depth + d], K and V the same at C and 2C
//   s[i][j] = scale * (chain of fma over d ascending, from 0, of Q[i][d] * K[j][d])
//   e[i][j] = exp(s[i][j] - max over j), sum in sixteen partial sums by j modulo 16, then those in order
//   destination[i][head * depth + d] = (chain of fma over j ascending, from 0, of e[i][j] * V[j][d]) * (1 / sum)
// The scores of at most kAttentionRows queries exist at a time.
struct AttentionCall {
  Rows qkv;
  MutableRows destination;
  int64_t images;
  int64_t tokens;  // N
  int64_t heads;
  int64_t depth;  // channels of a head
  float scale;    // (float) (1 / sqrt(depth))
  void *packed;   // packed_bytes() bytes of scratch, 64-byte aligned, shared by all threads
};

inline constexpr int64_t kAttentionRows = 24;  // queries of one item: four register tiles of six rows

// First pack() of every item in 0..images * heads - 1, in any order and on any threads; then, when all are done,
// attend() of every item in 0..items - 1, where items = images * heads * ceil(tokens / kAttentionRows).
struct AttentionKernels {
  int64_t (*packed_bytes)(const AttentionCall &call);
  int64_t (*thread_bytes)(const AttentionCall &call);  // scratch of one thread in attend(), 64-byte aligned
  void (*pack)(const AttentionCall &call, int64_t item);
  void (*attend)(const AttentionCall &call, int64_t item, void *thread_scratch);
};

inline int64_t attention_items(const AttentionCall &call) {
  return call.images * call.heads * ((call.tokens + kAttentionRows - 1) / kAttentionRows);
}

// Rows first .. first + count - 1 of the destination.
struct VisionKernels {
  void (*layer_norm)(const LayerNormCall &call, int64_t first, int64_t count);
  void (*gate)(const GateCall &call, int64_t first, int64_t count);
  void (*add)(const AddCall &call, int64_t first, int64_t count);
  void (*scale)(const ScaleCall &call, int64_t first, int64_t count);
  void (*copy)(const CopyCall &call, int64_t first, int64_t count);
  void (*embed)(const EmbedCall &call, int64_t first, int64_t count);
  void (*normalize)(const NormalizeCall &call, int64_t first, int64_t count);
  void (*to_pixels)(const ToPixelsCall &call, int64_t first, int64_t count);
  AttentionKernels attention;  // canonical f32; a BF16 qkv is widened
  AttentionKernels
      attention_bf16;  // for a BF16 qkv: bf16 products where the machine has them, f32 sums and softmax; to a tolerance
};

const VisionKernels &vision_portable();
const VisionKernels &vision_avx2();        // needs AVX2 and FMA
const VisionKernels &vision_avx512();      // needs AVX-512 F, BW, DQ, VL
const VisionKernels &vision_avx512bf16();  // and AVX512_BF16

// Fills table [channels][256] of a NormalizeCall.
void normalize_table(const float *mean, const float *deviation, int64_t channels, float *table);

}  // namespace comneck

#endif
