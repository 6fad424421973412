// From real numbers to symbols, table indices and back, a row of channels at a time.
#ifndef COMNECK_ENTROPY_QUANTIZE_H
#define COMNECK_ENTROPY_QUANTIZE_H

#include <cstdint>

namespace comneck {

struct QuantizeKernels {
  // symbol = rint(value - mean), saturated to 16 bits, NaN: 0; hat = symbol + mean. n elements; hat may be value itself.
  void (*quantize)(const float *value, const float *mean, int16_t *symbol, float *hat, int64_t n);

  // hat = symbol + mean.
  void (*dequantize)(const int16_t *symbol, const float *mean, float *hat, int64_t n);

  // index = number of thresholds that are smaller than the scale; NaN: 0. thresholds: ascending, at most 255.
  void (*indices)(const float *scale, const float *thresholds, int32_t threshold_count, uint8_t *index, int64_t n);
};

// isa: COMNECK_ISA_PORTABLE, AVX2 or AVX512, one that this machine has.
const QuantizeKernels &quantize_kernels(int32_t isa);
const QuantizeKernels &quantize_kernels_portable();
const QuantizeKernels &quantize_kernels_avx2();
const QuantizeKernels &quantize_kernels_avx512();

}  // namespace comneck

#endif
