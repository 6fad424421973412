// Tile kernels for AVX512_BF16: vdpbf16ps adds the products of a pair of channels to each lane, twice the work of an
// f32 FMA.
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

struct UnitsBf16 {
  using Vector = __m512;
  static Vector broadcast(const char *unit) {
    int32_t pair;
    std::memcpy(&pair, unit, 4);
    return _mm512_castsi512_ps(_mm512_set1_epi32(pair));
  }
  static Vector operand(const char *from) { return _mm512_loadu_ps(reinterpret_cast<const float *>(from)); }
  static Vector madd(Vector a, Vector b, Vector c) {
    return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
};

struct Narrow {
  static constexpr int kLanes = kNarrow;
  using Vector = __m128;
  static Vector load(const float *from) { return _mm_loadu_ps(from); }
  static void store(float *to, Vector value) { _mm_storeu_ps(to, value); }
  static Vector add(Vector a, Vector b) { return _mm_add_ps(a, b); }
  static Vector relu(Vector x) { return _mm_max_ps(x, _mm_setzero_ps()); }  // 0 for NaN
};

struct NarrowUnitsBf16 {
  using Vector = __m128;
  static Vector broadcast(const char *unit) {
    int32_t pair;
    std::memcpy(&pair, unit, 4);
    return _mm_castsi128_ps(_mm_set1_epi32(pair));
  }
  static Vector operand(const char *from) { return _mm_loadu_ps(reinterpret_cast<const float *>(from)); }
  static Vector madd(Vector a, Vector b, Vector c) {
    return _mm_dpbf16_ps(c, reinterpret_cast<__m128bh>(a), reinterpret_cast<__m128bh>(b));
  }
};

}  // namespace

const GemmKernels &gemm_bf16_narrow_avx512bf16() {
  static const GemmKernels kernels = make_kernels<Narrow, NarrowUnitsBf16, 12>(&finish_tile<Avx512Lanes>);
  return kernels;
}

const GemmKernels &gemm_bf16_avx512bf16() {
  static const GemmKernels kernels = make_kernels<Avx512, UnitsBf16, 12, 12, 8, 6>(&finish_tile<Avx512Lanes>);
  return kernels;
}

}  // namespace comneck
