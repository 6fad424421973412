// Tile kernels for AVX2 and FMA: 6 rows x 2 vectors of 8 keep 12 of the 16 registers busy.
#include <immintrin.h>

#include <cstring>

#include "backend/gemm_finish.h"
#include "backend/gemm_tile.h"

namespace comneck {
namespace {

struct Avx2 {
  static constexpr int kLanes = 8;
  using Vector = __m256;
  static Vector load(const float *from) { return _mm256_loadu_ps(from); }
  static void store(float *to, Vector value) { _mm256_storeu_ps(to, value); }
  static Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
  static Vector relu(Vector x) { return _mm256_max_ps(x, _mm256_setzero_ps()); }  // 0 for NaN
};

struct UnitsF32 {
  using Vector = __m256;
  static Vector broadcast(const char *unit) { return _mm256_broadcast_ss(reinterpret_cast<const float *>(unit)); }
  static Vector operand(const char *from) { return _mm256_loadu_ps(reinterpret_cast<const float *>(from)); }
  static Vector madd(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
};

// Units are pairs of bf16, the lower channel in the lower half.
struct UnitsBf16 {
  using Vector = __m256;
  static Vector broadcast(const char *unit) {
    int32_t pair;
    std::memcpy(&pair, unit, 4);
    return _mm256_castsi256_ps(_mm256_set1_epi32(pair));
  }
  static Vector operand(const char *from) { return _mm256_loadu_ps(reinterpret_cast<const float *>(from)); }
  static Vector low(Vector pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(pairs), 16)); }
  static Vector high(Vector pairs) {
    return _mm256_and_ps(pairs, _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int32_t>(0xFFFF0000u))));
  }
  static Vector madd(Vector a, Vector b, Vector c) {
    return _mm256_fmadd_ps(high(a), high(b), _mm256_fmadd_ps(low(a), low(b), c));
  }
};

// Four lanes: two such FMAs a cycle do twice the useful work of one wide one that is three lanes full.
struct Narrow {
  static constexpr int kLanes = kNarrow;
  using Vector = __m128;
  static Vector load(const float *from) { return _mm_loadu_ps(from); }
  static void store(float *to, Vector value) { _mm_storeu_ps(to, value); }
  static Vector add(Vector a, Vector b) { return _mm_add_ps(a, b); }
  static Vector relu(Vector x) { return _mm_max_ps(x, _mm_setzero_ps()); }  // 0 for NaN
};

struct NarrowUnitsF32 {
  using Vector = __m128;
  static Vector broadcast(const char *unit) { return _mm_broadcast_ss(reinterpret_cast<const float *>(unit)); }
  static Vector operand(const char *from) { return _mm_loadu_ps(reinterpret_cast<const float *>(from)); }
  static Vector madd(Vector a, Vector b, Vector c) { return _mm_fmadd_ps(a, b, c); }
};

}  // namespace

const GemmKernels &gemm_narrow_avx2() {
  static const GemmKernels kernels = make_kernels<Narrow, NarrowUnitsF32, 8>(&finish_tile<Avx2Lanes>);
  return kernels;
}

const GemmKernels &gemm_avx2() {
  static const GemmKernels kernels = make_kernels<Avx2, UnitsF32, 8, 6>(&finish_tile<Avx2Lanes>);
  return kernels;
}

const GemmKernels &gemm_bf16_avx2() {
  static const GemmKernels kernels = make_kernels<Avx2, UnitsBf16, 6, 4>(&finish_tile<Avx2Lanes>);
  return kernels;
}

}  // namespace comneck
