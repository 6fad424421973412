// Lanes: one name for the float vectors of every instruction set, so that an operation is written once as a template
// and compiled three times. PortableLanes has 1 lane, Avx2Lanes 8, Avx512Lanes 16. Each function is one IEEE binary32
// operation in every lane (or moves bits), so a template that uses nothing else gives the same bits whatever the width.
//
// Everything lies in an unnamed namespace on purpose, and calls builtins instead of the inline functions of std: a
// translation unit compiled for AVX-512 must never lend its copy of an inline function to the portable one, as the
// linker would do with a shared definition.
#ifndef COMNECK_LANES_H
#define COMNECK_LANES_H

#include <cstdint>

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#endif

// Functions that nvcc compiles for the device too.
#if defined(__CUDACC__)
#define COMNECK_ANYWHERE __host__ __device__
#else
#define COMNECK_ANYWHERE
#endif

namespace comneck {
namespace {

// One lane of plain C++. fmaf is exact everywhere: a library call where the processor has no such instruction.
struct PortableLanes {
  using Float = float;
  using Mask = bool;
  static constexpr int kWidth = 1;

  COMNECK_ANYWHERE static inline float set(float x) { return x; }
  COMNECK_ANYWHERE static inline float zero() { return 0.0f; }
  COMNECK_ANYWHERE static inline float load(const float *p) { return *p; }
  COMNECK_ANYWHERE static inline void store(float *p, float x) { *p = x; }
  // The first n lanes, 0 <= n <= kWidth; the others are zero, and not touched in memory.
  COMNECK_ANYWHERE static inline float load_part(const float *p, int64_t n) { return n > 0 ? *p : 0.0f; }
  COMNECK_ANYWHERE static inline void store_part(float *p, float x, int64_t n) {
    if (n > 0) {
      *p = x;
    }
  }
  COMNECK_ANYWHERE static inline float load_bf16(const uint16_t *p) {
    return __builtin_bit_cast(float, static_cast<uint32_t>(*p) << 16);
  }
  COMNECK_ANYWHERE static inline float load_bf16_part(const uint16_t *p, int64_t n) { return n > 0 ? load_bf16(p) : 0.0f; }
  // Rounds to nearest even; a NaN keeps its sign and upper payload and becomes quiet.
  COMNECK_ANYWHERE static inline void store_bf16(uint16_t *p, float x) {
    uint32_t bits = __builtin_bit_cast(uint32_t, x);
    uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    *p = static_cast<uint16_t>(x != x ? ((bits >> 16) | 0x40u) : rounded);
  }
  COMNECK_ANYWHERE static inline void store_bf16_part(uint16_t *p, float x, int64_t n) {
    if (n > 0) {
      store_bf16(p, x);
    }
  }

  // The first n lanes of x, zero in the others.
  COMNECK_ANYWHERE static inline float first(float x, int64_t n) { return n > 0 ? x : 0.0f; }

  COMNECK_ANYWHERE static inline float add(float a, float b) { return a + b; }
  COMNECK_ANYWHERE static inline float sub(float a, float b) { return a - b; }
  COMNECK_ANYWHERE static inline float mul(float a, float b) { return a * b; }
  COMNECK_ANYWHERE static inline float div(float a, float b) { return a / b; }
  COMNECK_ANYWHERE static inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
  // a > b ? a : b, and a < b ? a : b: b where either is NaN.
  COMNECK_ANYWHERE static inline float max(float a, float b) { return a > b ? a : b; }
  COMNECK_ANYWHERE static inline float min(float a, float b) { return a < b ? a : b; }
  COMNECK_ANYWHERE static inline float negate(float a) { return -a; }
  COMNECK_ANYWHERE static inline float abs(float a) { return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, a) & 0x7FFFFFFFu); }
  COMNECK_ANYWHERE static inline float copy_sign(float magnitude, float sign) {
    return __builtin_bit_cast(float, (__builtin_bit_cast(uint32_t, magnitude) & 0x7FFFFFFFu) |
                                         (__builtin_bit_cast(uint32_t, sign) & 0x80000000u));
  }
  // Adds the low 9 bits of t's pattern, times 2^23, to e's pattern: e * 2^n where t = n + 1.5 * 2^23.
  COMNECK_ANYWHERE static inline float add_exponent(float e, float t) {
    return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, e) + (__builtin_bit_cast(uint32_t, t) << 23));
  }
  COMNECK_ANYWHERE static inline bool less(float a, float b) { return a < b; }
  COMNECK_ANYWHERE static inline bool is_nan(float a) { return a != a; }
  // yes where the mask is set, else no.
  COMNECK_ANYWHERE static inline float select(bool mask, float yes, float no) { return mask ? yes : no; }
  // rows[i] lane j becomes rows[j] lane i; kWidth rows.
  COMNECK_ANYWHERE static inline void transpose(float *) {}
};

#if defined(__AVX2__) && defined(__FMA__)

struct Avx2Lanes {
  using Float = __m256;
  using Mask = __m256;
  static constexpr int kWidth = 8;

  static inline __m256i first_lanes(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }

  static inline __m256 set(float x) { return _mm256_set1_ps(x); }
  static inline __m256 zero() { return _mm256_setzero_ps(); }
  static inline __m256 load(const float *p) { return _mm256_loadu_ps(p); }
  static inline void store(float *p, __m256 x) { _mm256_storeu_ps(p, x); }
  static inline __m256 load_part(const float *p, int64_t n) { return _mm256_maskload_ps(p, first_lanes(n)); }
  static inline void store_part(float *p, __m256 x, int64_t n) { _mm256_maskstore_ps(p, first_lanes(n), x); }
  static inline __m256 widen_bf16(__m128i x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
  }
  static inline __m256 load_bf16(const uint16_t *p) {
    return widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
  }
  static inline __m256 load_bf16_part(const uint16_t *p, int64_t n) {
    alignas(16) uint16_t part[8] = {};
    for (int64_t i = 0; i < n; i++) {
      part[i] = p[i];
    }
    return load_bf16(part);
  }
  static inline __m128i round_bf16(__m256 x) {
    __m256i bits = _mm256_castps_si256(x);
    __m256i upper = _mm256_srli_epi32(bits, 16);
    __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd), 16);
    __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    __m256i chosen = _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(is_nan(x)));
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(chosen, chosen), 0x08);
    return _mm256_castsi256_si128(packed);
  }
  static inline void store_bf16(uint16_t *p, __m256 x) {
    _mm_storeu_si128(reinterpret_cast<__m128i *>(p), round_bf16(x));
  }
  static inline void store_bf16_part(uint16_t *p, __m256 x, int64_t n) {
    alignas(16) uint16_t part[8];
    store_bf16(part, x);
    for (int64_t i = 0; i < n; i++) {
      p[i] = part[i];
    }
  }

  static inline __m256 first(__m256 x, int64_t n) { return _mm256_and_ps(x, _mm256_castsi256_ps(first_lanes(n))); }

  static inline __m256 add(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
  static inline __m256 sub(__m256 a, __m256 b) { return _mm256_sub_ps(a, b); }
  static inline __m256 mul(__m256 a, __m256 b) { return _mm256_mul_ps(a, b); }
  static inline __m256 div(__m256 a, __m256 b) { return _mm256_div_ps(a, b); }
  static inline __m256 fma(__m256 a, __m256 b, __m256 c) { return _mm256_fmadd_ps(a, b, c); }
  static inline __m256 max(__m256 a, __m256 b) { return _mm256_max_ps(a, b); }
  static inline __m256 min(__m256 a, __m256 b) { return _mm256_min_ps(a, b); }
  static inline __m256 negate(__m256 a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
  static inline __m256 abs(__m256 a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static inline __m256 copy_sign(__m256 magnitude, __m256 sign) {
    return _mm256_or_ps(abs(magnitude), _mm256_and_ps(_mm256_set1_ps(-0.0f), sign));
  }
  static inline __m256 add_exponent(__m256 e, __m256 t) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(e), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));
  }
  static inline __m256 less(__m256 a, __m256 b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
  static inline __m256 is_nan(__m256 a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
  static inline __m256 select(__m256 mask, __m256 yes, __m256 no) { return _mm256_blendv_ps(no, yes, mask); }
  static inline void transpose(__m256 *rows) {
    __m256 quads[8];  // quads[4g + c] holds, in half b, column 4b + c of rows 4g .. 4g + 3
    for (int g = 0; g < 8; g += 4) {
      __m256 low = _mm256_unpacklo_ps(rows[g], rows[g + 1]), low2 = _mm256_unpacklo_ps(rows[g + 2], rows[g + 3]);
      __m256 high = _mm256_unpackhi_ps(rows[g], rows[g + 1]), high2 = _mm256_unpackhi_ps(rows[g + 2], rows[g + 3]);
      quads[g] = _mm256_shuffle_ps(low, low2, 0x44);
      quads[g + 1] = _mm256_shuffle_ps(low, low2, 0xEE);
      quads[g + 2] = _mm256_shuffle_ps(high, high2, 0x44);
      quads[g + 3] = _mm256_shuffle_ps(high, high2, 0xEE);
    }
    for (int c = 0; c < 4; c++) {
      rows[c] = _mm256_permute2f128_ps(quads[c], quads[4 + c], 0x20);
      rows[4 + c] = _mm256_permute2f128_ps(quads[c], quads[4 + c], 0x31);
    }
  }
};

#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)

struct Avx512Lanes {
  using Float = __m512;
  using Mask = __mmask16;
  static constexpr int kWidth = 16;

  static inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

  static inline __m512 set(float x) { return _mm512_set1_ps(x); }
  static inline __m512 zero() { return _mm512_setzero_ps(); }
  static inline __m512 load(const float *p) { return _mm512_loadu_ps(p); }
  static inline void store(float *p, __m512 x) { _mm512_storeu_ps(p, x); }
  static inline __m512 load_part(const float *p, int64_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
  static inline void store_part(float *p, __m512 x, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), x); }
  static inline __m512 widen_bf16(__m256i x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
  }
  static inline __m512 load_bf16(const uint16_t *p) {
    return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)));
  }
  static inline __m512 load_bf16_part(const uint16_t *p, int64_t n) {
    return widen_bf16(_mm256_maskz_loadu_epi16(first_lanes(n), p));
  }
  static inline __m256i round_bf16(__m512 x) {
    __m512i bits = _mm512_castps_si512(x);
    __m512i upper = _mm512_srli_epi32(bits, 16);
    __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
    __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd), 16);
    return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, is_nan(x), upper, _mm512_set1_epi32(0x40)));
  }
  static inline void store_bf16(uint16_t *p, __m512 x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(p), round_bf16(x));
  }
  static inline void store_bf16_part(uint16_t *p, __m512 x, int64_t n) {
    _mm256_mask_storeu_epi16(p, first_lanes(n), round_bf16(x));
  }

  static inline __m512 first(__m512 x, int64_t n) { return _mm512_maskz_mov_ps(first_lanes(n), x); }

  static inline __m512 add(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
  static inline __m512 sub(__m512 a, __m512 b) { return _mm512_sub_ps(a, b); }
  static inline __m512 mul(__m512 a, __m512 b) { return _mm512_mul_ps(a, b); }
  static inline __m512 div(__m512 a, __m512 b) { return _mm512_div_ps(a, b); }
  static inline __m512 fma(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
  static inline __m512 max(__m512 a, __m512 b) { return _mm512_max_ps(a, b); }
  static inline __m512 min(__m512 a, __m512 b) { return _mm512_min_ps(a, b); }
  static inline __m512 negate(__m512 a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
  static inline __m512 abs(__m512 a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }
  static inline __m512 copy_sign(__m512 magnitude, __m512 sign) {
    return _mm512_or_ps(abs(magnitude), _mm512_and_ps(_mm512_set1_ps(-0.0f), sign));
  }
  static inline __m512 add_exponent(__m512 e, __m512 t) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(e), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
  }
  static inline __mmask16 less(__m512 a, __m512 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  static inline __mmask16 is_nan(__m512 a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
  static inline __m512 select(__mmask16 mask, __m512 yes, __m512 no) { return _mm512_mask_blend_ps(mask, no, yes); }
  static inline void transpose(__m512 *rows) {
    __m512 quads[16];  // quads[4g + c] holds, in quarter b, column 4b + c of rows 4g .. 4g + 3
    for (int g = 0; g < 16; g += 4) {
      __m512 low = _mm512_unpacklo_ps(rows[g], rows[g + 1]), low2 = _mm512_unpacklo_ps(rows[g + 2], rows[g + 3]);
      __m512 high = _mm512_unpackhi_ps(rows[g], rows[g + 1]), high2 = _mm512_unpackhi_ps(rows[g + 2], rows[g + 3]);
      quads[g] = _mm512_shuffle_ps(low, low2, 0x44);
      quads[g + 1] = _mm512_shuffle_ps(low, low2, 0xEE);
      quads[g + 2] = _mm512_shuffle_ps(high, high2, 0x44);
      quads[g + 3] = _mm512_shuffle_ps(high, high2, 0xEE);
    }
    for (int c = 0; c < 4; c++) {
      __m512 even = _mm512_shuffle_f32x4(quads[c], quads[4 + c], 0x88),
             even2 = _mm512_shuffle_f32x4(quads[8 + c], quads[12 + c], 0x88);
      __m512 odd = _mm512_shuffle_f32x4(quads[c], quads[4 + c], 0xDD),
             odd2 = _mm512_shuffle_f32x4(quads[8 + c], quads[12 + c], 0xDD);
      rows[c] = _mm512_shuffle_f32x4(even, even2, 0x88);
      rows[4 + c] = _mm512_shuffle_f32x4(odd, odd2, 0x88);
      rows[8 + c] = _mm512_shuffle_f32x4(even, even2, 0xDD);
      rows[12 + c] = _mm512_shuffle_f32x4(odd, odd2, 0xDD);
    }
  }
};

#endif

}  // namespace
}  // namespace comneck

#endif
