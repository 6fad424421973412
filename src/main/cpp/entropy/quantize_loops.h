// The loops of QuantizeKernels in plain C++, for the compiler to vectorise; included once for each instruction set.
#ifndef COMNECK_ENTROPY_QUANTIZE_LOOPS_H
#define COMNECK_ENTROPY_QUANTIZE_LOOPS_H

#include <cstdint>

namespace comneck {
namespace {

inline void quantize_loop(const float *value, const float *mean, int16_t *symbol,
                          float *hat, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    float x = value[i] - mean[i];
    x = x == x ? x : 0.0f;
    x = x > -32768.0f ? x : -32768.0f;
    x = x < 32767.0f ? x : 32767.0f;
    // 1.5 * 2^23 leaves no bits for a fraction: adding it rounds half to even, subtracting it is exact
    const float rounded = (x + 12582912.0f) - 12582912.0f;
    symbol[i] = static_cast<int16_t>(static_cast<int32_t>(rounded));
    hat[i] = static_cast<float>(static_cast<int32_t>(rounded)) + mean[i];
  }
}

inline void dequantize_loop(const int16_t *symbol, const float *mean, float *hat, int64_t n) {
  for (int64_t i = 0; i < n; i++) hat[i] = static_cast<float>(symbol[i]) + mean[i];
}

inline void indices_loop(const float *scale, const float *thresholds, int32_t threshold_count,
                         uint8_t *index, int64_t n) {
  constexpr int64_t kBlock = 64;
  for (int64_t at = 0; at < n; at += kBlock) {
    const int64_t size = n - at < kBlock ? n - at : kBlock;
    int32_t count[kBlock] = {};
    float block[kBlock] = {};
    for (int64_t i = 0; i < size; i++) block[i] = scale[at + i];
    for (int32_t t = 0; t < threshold_count; t++) {
      const float threshold = thresholds[t];
      for (int64_t i = 0; i < kBlock; i++) count[i] += threshold < block[i] ? 1 : 0;
    }
    for (int64_t i = 0; i < size; i++) index[at + i] = static_cast<uint8_t>(count[i]);
  }
}

}  // namespace
}  // namespace comneck

#endif
