// Eight lanes in one register; up to four substreams in flight to hide the latency of gathers.
#include <immintrin.h>

#include <array>

#include "entropy/rans_lanes.h"

namespace comneck {
namespace {

// kSpread[mask]: shuffle that puts consecutive words where mask has bits, 8 lanes of 2 bytes.
struct Spread {
  alignas(64) std::array<std::array<uint8_t, 16>, 256> bytes;
};
constexpr Spread make_spread() {
  Spread spread{};
  for (int mask = 0; mask < 256; mask++) {
    int next = 0;
    for (int lane = 0; lane < 8; lane++) {
      const bool present = ((mask >> lane) & 1) != 0;
      spread.bytes[mask][2 * lane] = static_cast<uint8_t>(present ? 2 * next : 0x80);
      spread.bytes[mask][2 * lane + 1] = static_cast<uint8_t>(present ? 2 * next + 1 : 0x80);
      next += present ? 1 : 0;
    }
  }
  return spread;
}
constexpr Spread kSpread = make_spread();

template <int N>
inline __m256i decode(RansLanes *lanes, int32_t from, int64_t stride, const uint32_t *entries, const uint8_t *indices,
                      int16_t *symbols, int32_t rounds) {
  const __m256i low12 = _mm256_set1_epi32(4095);
  __m256i x[N];
  const uint16_t *word[N];
  for (int j = 0; j < N; j++) {
    x[j] = _mm256_load_si256(reinterpret_cast<const __m256i *>(lanes->state + (from + j) * kLanes));
    word[j] = lanes->word[from + j];
  }
  __m256i any = _mm256_setzero_si256();
  for (int32_t r = 0; r < rounds; r++) {
    const int64_t at = r * stride + from * kLanes;
    for (int j = 0; j < N; j++) {
      const __m256i table =
          _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(indices + at + j * kLanes)));
      const __m256i slot = _mm256_and_si256(x[j], low12);
      const __m256i entry = _mm256_i32gather_epi32(reinterpret_cast<const int *>(entries),
                                                   _mm256_or_si256(_mm256_slli_epi32(table, 12), slot), 4);
      const __m256i frequency = _mm256_and_si256(_mm256_srli_epi32(entry, 12), low12);
      __m256i next = _mm256_add_epi32(_mm256_mullo_epi32(frequency, _mm256_srli_epi32(x[j], 12)),
                                      _mm256_and_si256(entry, low12));
      const __m256i refill = _mm256_cmpeq_epi32(_mm256_srli_epi32(next, 16), _mm256_setzero_si256());
      const unsigned mask = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(refill)));
      const __m128i words = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i *>(word[j])),
                                             _mm_load_si128(reinterpret_cast<const __m128i *>(kSpread.bytes[mask].data())));
      next = _mm256_blendv_epi8(next, _mm256_or_si256(_mm256_slli_epi32(next, 16), _mm256_cvtepu16_epi32(words)), refill);
      word[j] += __builtin_popcount(mask);
      x[j] = next;
      __m256i value = _mm256_srai_epi32(entry, 24);
      const __m256i slow = _mm256_cmpeq_epi32(value, _mm256_set1_epi32(-128));
      any = _mm256_or_si256(any, slow);
      value = _mm256_blendv_epi8(value, _mm256_or_si256(slot, _mm256_set1_epi32(kSlowMark)), slow);
      const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(value, value), 0x08);
      _mm_storeu_si128(reinterpret_cast<__m128i *>(symbols + at + j * kLanes), _mm256_castsi256_si128(packed));
    }
  }
  for (int j = 0; j < N; j++) {
    _mm256_store_si256(reinterpret_cast<__m256i *>(lanes->state + (from + j) * kLanes), x[j]);
    lanes->word[from + j] = word[j];
  }
  return any;
}

}  // namespace

bool decode_rounds_avx2(RansLanes *lanes, int32_t substreams, int64_t stride, const uint32_t *entries, const uint8_t *indices,
                        int16_t *symbols, int32_t rounds) {
  __m256i any = _mm256_setzero_si256();
  int32_t s = 0;
  for (; s + 4 <= substreams; s += 4) {
    any = _mm256_or_si256(any, decode<4>(lanes, s, stride, entries, indices, symbols, rounds));
  }
  switch (substreams - s) {
    case 3: any = _mm256_or_si256(any, decode<3>(lanes, s, stride, entries, indices, symbols, rounds)); break;
    case 2: any = _mm256_or_si256(any, decode<2>(lanes, s, stride, entries, indices, symbols, rounds)); break;
    case 1: any = _mm256_or_si256(any, decode<1>(lanes, s, stride, entries, indices, symbols, rounds)); break;
    default: break;
  }
  return _mm256_testz_si256(any, any) == 0;
}

}  // namespace comneck
