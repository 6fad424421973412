// Two substreams in a register, two or four registers in flight; up to three that are left over take half a register each.
#include <immintrin.h>

#include "entropy/rans_lanes.h"

namespace comneck {
namespace {

inline __m256i words_of(const uint16_t *word) {
  return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(word)));
}

// N registers of two substreams each.
template <int N>
inline bool decode(RansLanes *lanes, int32_t from, int64_t stride, const uint32_t *entries, const uint8_t *indices,
                   int16_t *symbols, int32_t rounds) {
  const __m512i low12 = _mm512_set1_epi32(4095);
  const __m512i slow_end = _mm512_set1_epi32(-127 * (1 << 24));
  const __m512i slow_mark = _mm512_set1_epi32(kSlowMark);
  const __m512i lowest = _mm512_set1_epi32(1 << 16);
  __m512i x[N];
  const uint16_t *word[2 * N];
  for (int j = 0; j < N; j++) {
    x[j] = _mm512_load_si512(lanes->state + (from + 2 * j) * kLanes);
    word[2 * j] = lanes->word[from + 2 * j];
    word[2 * j + 1] = lanes->word[from + 2 * j + 1];
  }
  unsigned any = 0;
  for (int32_t r = 0; r < rounds; r++) {
    const int64_t at = r * stride + from * kLanes;
    for (int j = 0; j < N; j++) {
      const __m512i table =
          _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(indices + at + 2 * j * kLanes)));
      const __m512i slot = _mm512_and_si512(x[j], low12);
      const __m512i entry = _mm512_i32gather_epi32(_mm512_or_si512(_mm512_slli_epi32(table, 12), slot), entries, 4);
      const __m512i frequency = _mm512_and_si512(_mm512_srli_epi32(entry, 12), low12);
      const __m512i next = _mm512_add_epi32(_mm512_mullo_epi32(frequency, _mm512_srli_epi32(x[j], 12)),
                                            _mm512_and_si512(entry, low12));
      const unsigned refill = _mm512_cmplt_epu32_mask(next, lowest);
      const __m256i first = _mm256_maskz_expand_epi32(static_cast<__mmask8>(refill & 0xFF), words_of(word[2 * j]));
      const __m256i second = _mm256_maskz_expand_epi32(static_cast<__mmask8>(refill >> 8), words_of(word[2 * j + 1]));
      const __m512i words = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
      word[2 * j] += __builtin_popcount(refill & 0xFF);
      word[2 * j + 1] += __builtin_popcount(refill >> 8);
      x[j] = _mm512_mask_or_epi32(next, static_cast<__mmask16>(refill), _mm512_slli_epi32(next, 16), words);
      const __mmask16 slow = _mm512_cmplt_epi32_mask(entry, slow_end);
      any |= slow;
      const __m512i value = _mm512_mask_or_epi32(_mm512_srai_epi32(entry, 24), slow, slot, slow_mark);
      _mm256_storeu_si256(reinterpret_cast<__m256i *>(symbols + at + 2 * j * kLanes), _mm512_cvtepi32_epi16(value));
    }
  }
  for (int j = 0; j < N; j++) {
    _mm512_store_si512(lanes->state + (from + 2 * j) * kLanes, x[j]);
    lanes->word[from + 2 * j] = word[2 * j];
    lanes->word[from + 2 * j + 1] = word[2 * j + 1];
  }
  return any != 0;
}

// N half registers of one substream each.
template <int N>
inline bool decode_halves(RansLanes *lanes, int32_t from, int64_t stride, const uint32_t *entries, const uint8_t *indices,
                          int16_t *symbols, int32_t rounds) {
  const __m256i low12 = _mm256_set1_epi32(4095);
  const __m256i slow_end = _mm256_set1_epi32(-127 * (1 << 24));
  const __m256i slow_mark = _mm256_set1_epi32(kSlowMark);
  const __m256i lowest = _mm256_set1_epi32(1 << 16);
  __m256i x[N];
  const uint16_t *word[N];
  for (int j = 0; j < N; j++) {
    x[j] = _mm256_load_si256(reinterpret_cast<const __m256i *>(lanes->state + (from + j) * kLanes));
    word[j] = lanes->word[from + j];
  }
  unsigned any = 0;
  for (int32_t r = 0; r < rounds; r++) {
    const int64_t at = r * stride + from * kLanes;
    for (int j = 0; j < N; j++) {
      const __m256i table =
          _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(indices + at + j * kLanes)));
      const __m256i slot = _mm256_and_si256(x[j], low12);
      const __m256i entry = _mm256_i32gather_epi32(reinterpret_cast<const int *>(entries),
                                                   _mm256_or_si256(_mm256_slli_epi32(table, 12), slot), 4);
      const __m256i frequency = _mm256_and_si256(_mm256_srli_epi32(entry, 12), low12);
      const __m256i next = _mm256_add_epi32(_mm256_mullo_epi32(frequency, _mm256_srli_epi32(x[j], 12)),
                                            _mm256_and_si256(entry, low12));
      const __mmask8 refill = _mm256_cmplt_epu32_mask(next, lowest);
      const __m256i words = _mm256_maskz_expand_epi32(refill, words_of(word[j]));
      word[j] += __builtin_popcount(refill);
      x[j] = _mm256_mask_or_epi32(next, refill, _mm256_slli_epi32(next, 16), words);
      const __mmask8 slow = _mm256_cmplt_epi32_mask(entry, slow_end);
      any |= slow;
      const __m256i value = _mm256_mask_or_epi32(_mm256_srai_epi32(entry, 24), slow, slot, slow_mark);
      _mm_storeu_si128(reinterpret_cast<__m128i *>(symbols + at + j * kLanes), _mm256_cvtepi32_epi16(value));
    }
  }
  for (int j = 0; j < N; j++) {
    _mm256_store_si256(reinterpret_cast<__m256i *>(lanes->state + (from + j) * kLanes), x[j]);
    lanes->word[from + j] = word[j];
  }
  return any != 0;
}

}  // namespace

bool decode_rounds_avx512(RansLanes *lanes, int32_t substreams, int64_t stride, const uint32_t *entries, const uint8_t *indices,
                          int16_t *symbols, int32_t rounds) {
  bool slow = false;
  int32_t s = 0;
  for (; s + 8 <= substreams; s += 8) slow |= decode<4>(lanes, s, stride, entries, indices, symbols, rounds);
  if (s + 4 <= substreams) {
    slow |= decode<2>(lanes, s, stride, entries, indices, symbols, rounds);
    s += 4;
  }
  switch (substreams - s) {
    case 3: return slow | decode_halves<3>(lanes, s, stride, entries, indices, symbols, rounds);
    case 2: return slow | decode_halves<2>(lanes, s, stride, entries, indices, symbols, rounds);
    case 1: return slow | decode_halves<1>(lanes, s, stride, entries, indices, symbols, rounds);
    default: return slow;
  }
}

}  // namespace comneck
