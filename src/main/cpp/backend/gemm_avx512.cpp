// Tile kernels for AVX-512: 24 accumulators, 4 vectors of b and one broadcast of a fill 29 of the 32 registers.
#include <immintrin.h>

#include <cstring>

#include "backend/gemm_finish.h"
#include "backend/gemm_tile.h"

namespace comneck {
namespace {

struct Avx512 {
  static constexpr int kLanes = 16;
  using Vector = __m512;
  static Vector load(const float *from) { return _mm512_loadu_ps(from); }
  static void store(float *to, Vector value) { _mm512_storeu_ps(to, value); }
  static Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
  static Vector relu(Vector x) { return _mm512_max_ps(x, _mm512_setzero_ps()); }  // 0 for NaN
};

struct UnitsF32 {
  using Vector = __m512;
  static Vector broadcast(const char *unit) { return _mm512_set1_ps(*reinterpret_cast<const float *>(unit)); }
  static Vector operand(const char *from) { return _mm512_loadu_ps(reinterpret_cast<const float *>(from)); }
  static Vector madd(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
};

// Units are pairs of bf16, the lower channel in the lower half. For machines without AVX512_BF16.
struct UnitsBf16 {
  using Vector = __m512;
  static Vector broadcast(const char *unit) {
    int32_t pair;
    std::memcpy(&pair, unit, 4);
    return _mm512_castsi512_ps(_mm512_set1_epi32(pair));
  }
  static Vector operand(const char *from) { return _mm512_loadu_ps(reinterpret_cast<const float *>(from)); }
  static Vector low(Vector pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(pairs), 16)); }
  static Vector high(Vector pairs) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(_mm512_castps_si512(pairs), _mm512_set1_epi32(static_cast<int32_t>(0xFFFF0000u))));
  }
  static Vector madd(Vector a, Vector b, Vector c) {
    return _mm512_fmadd_ps(high(a), high(b), _mm512_fmadd_ps(low(a), low(b), c));
  }
};

}  // namespace

const GemmKernels &gemm_avx512() {
  static const GemmKernels kernels = make_kernels<Avx512, UnitsF32, 12, 12, 8, 6>(&finish_tile<Avx512Lanes>);
  return kernels;
}

const GemmKernels &gemm_bf16_avx512() {
  static const GemmKernels kernels = make_kernels<Avx512, UnitsBf16, 8, 8, 6, 4>(&finish_tile<Avx512Lanes>);
  return kernels;
}

}  // namespace comneck
