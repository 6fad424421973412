// Row-wise operations of vision.h as templates over Lanes; each instruction set has its own copy (see lanes.h for why).
#ifndef COMNECK_VISION_ROWS_H
#define COMNECK_VISION_ROWS_H

#include <cstdint>
#include <cstring>

#include "canonical_math.h"
#include "vision/vision.h"

namespace comneck {
namespace {

// Start of row r.
inline const void *row(const Rows &rows, int64_t r) {
  return rows.type == kF32 ? static_cast<const void *>(static_cast<const float *>(rows.data) + r * rows.stride)
                           : static_cast<const void *>(static_cast<const uint16_t *>(rows.data) + r * rows.stride);
}

inline void *row(const MutableRows &rows, int64_t r) {
  return rows.type == kF32 ? static_cast<void *>(static_cast<float *>(rows.data) + r * rows.stride)
                           : static_cast<void *>(static_cast<uint16_t *>(rows.data) + r * rows.stride);
}

// Elements c .. c + n - 1 of a row, n at most the vector's width; lanes beyond are zero.
template <class L>
[[gnu::always_inline]] inline typename L::Float load_row(const void *data, int32_t type, int64_t c, int64_t n) {
  if (type == kF32) {
    const float *p = static_cast<const float *>(data) + c;
    return n >= L::kWidth ? L::load(p) : L::load_part(p, n);
  }
  const uint16_t *p = static_cast<const uint16_t *>(data) + c;
  return n >= L::kWidth ? L::load_bf16(p) : L::load_bf16_part(p, n);
}

template <class L>
[[gnu::always_inline]] inline void store_row(void *data, int32_t type, int64_t c, int64_t n, typename L::Float x) {
  if (type == kF32) {
    float *p = static_cast<float *>(data) + c;
    n >= L::kWidth ? L::store(p, x) : L::store_part(p, x, n);
  } else {
    uint16_t *p = static_cast<uint16_t *>(data) + c;
    n >= L::kWidth ? L::store_bf16(p, x) : L::store_bf16_part(p, x, n);
  }
}

// The sixteen partial sums in order.
inline float total(const float *partial) {
  float sum = partial[0];
  for (int i = 1; i < 16; i++) {
    sum = sum + partial[i];
  }
  return sum;
}

// ----------------------------------------------------------------------------------------------- LayerNorm

// R rows side by side, to hide the latency of the additions: partial[r][v] holds the sums of channels v * kWidth ..
// modulo 16.
template <class L, int R>
inline void layer_norm_rows(const LayerNormCall &call, int64_t first) {
  using F = typename L::Float;
  constexpr int kVectors = 16 / L::kWidth;
  const int64_t channels = call.channels;
  const int32_t type = call.source.type;
  const void *x[R];
  for (int r = 0; r < R; r++) {
    x[r] = row(call.source, first + r);
  }
  alignas(64) float sums[R][16];
  F partial[R][kVectors];

  for (int r = 0; r < R; r++) {
    for (int v = 0; v < kVectors; v++) {
      partial[r][v] = L::zero();
    }
  }
  for (int64_t c = 0; c < channels; c += 16) {
    for (int v = 0; v < kVectors; v++) {
      int64_t at = c + v * L::kWidth;
      if (at < channels) {
        for (int r = 0; r < R; r++) {
          partial[r][v] = L::add(partial[r][v], load_row<L>(x[r], type, at, channels - at));
        }
      }
    }
  }
  F mean[R];
  for (int r = 0; r < R; r++) {
    for (int v = 0; v < kVectors; v++) {
      L::store(sums[r] + v * L::kWidth, partial[r][v]);
      partial[r][v] = L::zero();
    }
    mean[r] = L::set(total(sums[r]) / static_cast<float>(channels));
  }

  for (int64_t c = 0; c < channels; c += 16) {
    for (int v = 0; v < kVectors; v++) {
      int64_t at = c + v * L::kWidth;
      if (at < channels) {
        int64_t n = channels - at;
        for (int r = 0; r < R; r++) {
          F d = L::sub(load_row<L>(x[r], type, at, n), mean[r]);
          d = n >= L::kWidth ? d : L::first(d, n);
          partial[r][v] = L::fma(d, d, partial[r][v]);
        }
      }
    }
  }
  F inverse[R];
  for (int r = 0; r < R; r++) {
    for (int v = 0; v < kVectors; v++) {
      L::store(sums[r] + v * L::kWidth, partial[r][v]);
    }
    float variance = total(sums[r]) / static_cast<float>(channels);
    inverse[r] = L::set(1.0f / __builtin_sqrtf(variance + call.epsilon));
  }

  for (int64_t c = 0; c < channels; c += L::kWidth) {
    int64_t n = channels - c;
    F weight = load_row<L>(call.weight, kF32, c, n);
    F bias = load_row<L>(call.bias, kF32, c, n);
    for (int r = 0; r < R; r++) {
      F y = L::fma(L::mul(L::sub(load_row<L>(x[r], type, c, n), mean[r]), inverse[r]), weight, bias);
      store_row<L>(row(call.destination, first + r), call.destination.type, c, n, y);
    }
  }
}

template <class L>
void layer_norm(const LayerNormCall &call, int64_t first, int64_t count) {
  int64_t r = 0;
  if constexpr (L::kWidth > 1) {
    for (; r + 4 <= count; r += 4) {
      layer_norm_rows<L, 4>(call, first + r);
    }
  }
  for (; r < count; r++) {
    layer_norm_rows<L, 1>(call, first + r);
  }
}

// ----------------------------------------------------------------------------------------------- element-wise

template <class L>
void gate(const GateCall &call, int64_t first, int64_t count) {
  using F = typename L::Float;
  for (int64_t r = first; r < first + count; r++) {
    const void *a = row(call.a, r);
    const void *b = row(call.b, r);
    const void *x = row(call.x, r);
    void *y = row(call.destination, r);
    for (int64_t c = 0; c < call.channels; c += L::kWidth) {
      int64_t n = call.channels - c;
      F s = canonical::sigmoid<L>(load_row<L>(b, call.b.type, c, n));
      F v = L::fma(load_row<L>(a, call.a.type, c, n), s, load_row<L>(x, call.x.type, c, n));
      store_row<L>(y, call.destination.type, c, n, v);
    }
  }
}

template <class L>
void add(const AddCall &call, int64_t first, int64_t count) {
  for (int64_t r = first; r < first + count; r++) {
    const void *a = row(call.a, r);
    const void *b = row(call.b, r);
    void *y = row(call.destination, r);
    for (int64_t c = 0; c < call.channels; c += L::kWidth) {
      int64_t n = call.channels - c;
      store_row<L>(y, call.destination.type, c, n,
                   L::add(load_row<L>(a, call.a.type, c, n), load_row<L>(b, call.b.type, c, n)));
    }
  }
}

template <class L>
void scale(const ScaleCall &call, int64_t first, int64_t count) {
  for (int64_t r = first; r < first + count; r++) {
    const void *x = row(call.source, r);
    const float *gains = call.gains + r / call.positions * call.gains_stride;
    void *y = row(call.destination, r);
    for (int64_t c = 0; c < call.channels; c += L::kWidth) {
      int64_t n = call.channels - c;
      store_row<L>(y, call.destination.type, c, n,
                   L::mul(load_row<L>(x, call.source.type, c, n), load_row<L>(gains, kF32, c, n)));
    }
  }
}

template <class L>
void copy(const CopyCall &call, int64_t first, int64_t count) {
  for (int64_t r = first; r < first + count; r++) {
    int64_t image = r / call.positions;
    const void *x = row(call.source, image * call.source_positions + call.first + r % call.positions);
    void *y = row(call.destination, r);
    if (call.source.type == call.destination.type) {
      std::memmove(y, x, static_cast<size_t>(call.channels) * (call.source.type == kF32 ? 4 : 2));
      continue;
    }
    for (int64_t c = 0; c < call.channels; c += L::kWidth) {
      int64_t n = call.channels - c;
      store_row<L>(y, call.destination.type, c, n, load_row<L>(x, call.source.type, c, n));
    }
  }
}

template <class L>
void embed(const EmbedCall &call, int64_t first, int64_t count) {
  const int64_t shift = call.class_token != nullptr ? 1 : 0;
  for (int64_t r = first; r < first + count; r++) {
    int64_t image = r / call.tokens;
    int64_t token = r % call.tokens;
    bool is_class = token < shift;
    const void *x = is_class ? call.class_token : row(call.source, image * (call.tokens - shift) + token - shift);
    const int32_t type = is_class ? kF32 : call.source.type;
    const float *table = call.table + token * call.channels;
    void *y = row(call.destination, r);
    for (int64_t c = 0; c < call.channels; c += L::kWidth) {
      int64_t n = call.channels - c;
      store_row<L>(y, call.destination.type, c, n, L::add(load_row<L>(x, type, c, n), load_row<L>(table, kF32, c, n)));
    }
  }
}

// ----------------------------------------------------------------------------------------------- pixels

inline void normalize(const NormalizeCall &call, int64_t first, int64_t count) {
  for (int64_t r = first; r < first + count; r++) {
    const uint8_t *x = call.pixels + r * call.pixels_stride;
    if (call.destination.type == kF32) {
      float *y = static_cast<float *>(call.destination.data) + r * call.destination.stride;
      for (int64_t c = 0; c < call.channels; c++) {
        y[c] = call.table[c * 256 + x[c]];
      }
    } else {
      uint16_t *y = static_cast<uint16_t *>(call.destination.data) + r * call.destination.stride;
      for (int64_t c = 0; c < call.channels; c++) {
        PortableLanes::store_bf16(y + c, call.table[c * 256 + x[c]]);
      }
    }
  }
}

inline void to_pixels(const ToPixelsCall &call, int64_t first, int64_t count) {
  for (int64_t r = first; r < first + count; r++) {
    const void *x = row(call.source, r);
    uint8_t *y = call.pixels + r * call.pixels_stride;
    for (int64_t c = 0; c < call.channels; c++) {
      float v = load_row<PortableLanes>(x, call.source.type, c, 1);
      float clamped = v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f;
      y[c] = static_cast<uint8_t>(static_cast<int32_t>(clamped * 255.0f + 0.5f));
    }
  }
}

}  // namespace
}  // namespace comneck

#endif
