#include <immintrin.h>

#include "entropy/quantize.h"
#include "entropy/quantize_loops.h"

namespace comneck {
namespace {

inline __mmask16 mask_of(int64_t left) { return static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1 << left) - 1); }

void quantize(const float *value, const float *mean, int16_t *symbol, float *hat, int64_t n) {
  const __m512 low = _mm512_set1_ps(-32768.0f);
  const __m512 high = _mm512_set1_ps(32767.0f);
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = mask_of(n - i);
    const __m512 m = _mm512_maskz_loadu_ps(mask, mean + i);
    const __m512 x = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, value + i), m);
    const __m512 number = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), x);
    const __m512i s = _mm512_cvt_roundps_epi32(_mm512_min_ps(_mm512_max_ps(number, low), high),
                                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_mask_storeu_epi16(symbol + i, mask, _mm512_cvtepi32_epi16(s));
    _mm512_mask_storeu_ps(hat + i, mask, _mm512_add_ps(_mm512_cvtepi32_ps(s), m));
  }
}

void dequantize(const int16_t *symbol, const float *mean, float *hat, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = mask_of(n - i);
    const __m512i s = _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(mask, symbol + i));
    _mm512_mask_storeu_ps(hat + i, mask, _mm512_add_ps(_mm512_cvtepi32_ps(s), _mm512_maskz_loadu_ps(mask, mean + i)));
  }
}

// Binary search among 63 thresholds, six steps; thresholds of a step lie in one register, of the last in two.
// Step k (distance d = 32 >> k) compares with thresholds[index + d - 1], where index is a multiple of 2 d.
void indices_of_63(const float *scale, const float *thresholds, uint8_t *index, int64_t n) {
  alignas(64) float level[6][32] = {};
  for (int k = 0; k < 6; k++) {
    const int distance = 32 >> k;
    for (int j = 0; j < 1 << k; j++) level[k][j] = thresholds[j * 2 * distance + distance - 1];
  }
  const __m512 first = _mm512_load_ps(level[5]);
  const __m512 second = _mm512_load_ps(level[5] + 16);
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = mask_of(n - i);
    const __m512 x = _mm512_maskz_loadu_ps(mask, scale + i);
    __m512i node = _mm512_setzero_si512();  // which of the step's thresholds; in the end the index
    for (int k = 0; k < 6; k++) {
      const __m512 threshold = k < 5 ? _mm512_permutexvar_ps(node, _mm512_load_ps(level[k])) : _mm512_permutex2var_ps(first, node, second);
      const __mmask16 above = _mm512_cmp_ps_mask(threshold, x, _CMP_LT_OQ);
      node = _mm512_add_epi32(node, node);
      node = _mm512_mask_add_epi32(node, above, node, _mm512_set1_epi32(1));
    }
    _mm_mask_storeu_epi8(index + i, mask, _mm512_cvtepi32_epi8(node));
  }
}

void indices(const float *scale, const float *thresholds, int32_t threshold_count, uint8_t *index, int64_t n) {
  if (threshold_count == 63) {
    indices_of_63(scale, thresholds, index, n);
  } else {
    indices_loop(scale, thresholds, threshold_count, index, n);
  }
}

}  // namespace

const QuantizeKernels &quantize_kernels_avx512() {
  static const QuantizeKernels kernels{quantize, dequantize, indices};
  return kernels;
}

}  // namespace comneck
