// Element-wise functions over arrays: x (n) f32 -> y (n) f32. One compilation for each instruction set; all give the
// same bits.
#ifndef COMNECK_VISION_FUNCTIONS_H
#define COMNECK_VISION_FUNCTIONS_H

#include <cstdint>

#include "canonical_math.h"

namespace comneck {

// The first four are the codes of org.comneck.backend.Function.
enum class FunctionCode : int32_t { NONE = 0, RELU = 1, QUICK_GELU = 2, GELU = 3, EXP = 4, SIGMOID = 5, ERF = 6 };

// y[i] = function(x[i]); y may be x.
using ApplyFunction = void (*)(FunctionCode function, const float *x, float *y, int64_t n);

void apply_function_portable(FunctionCode function, const float *x, float *y, int64_t n);
// Only where the processor has AVX2 and FMA.
void apply_function_avx2(FunctionCode function, const float *x, float *y, int64_t n);
// Only where the processor has AVX-512 F, BW, DQ and VL.
void apply_function_avx512(FunctionCode function, const float *x, float *y, int64_t n);

namespace {

template <class L, class Each>
[[gnu::always_inline]] inline void apply_each(const float *x, float *y, int64_t n, Each each) {
  int64_t i = 0;
  for (; i + L::kWidth <= n; i += L::kWidth) {
    L::store(y + i, each(L::load(x + i)));
  }
  if (i < n) {
    L::store_part(y + i, each(L::load_part(x + i, n - i)), n - i);
  }
}

template <class L>
inline void apply_function(FunctionCode function, const float *x, float *y, int64_t n) {
  using F = typename L::Float;
  switch (function) {
    case FunctionCode::NONE:
      return apply_each<L>(x, y, n, [](F v) { return v; });
    case FunctionCode::RELU:
      return apply_each<L>(x, y, n, [](F v) { return canonical::relu<L>(v); });
    case FunctionCode::QUICK_GELU:
      return apply_each<L>(x, y, n, [](F v) { return canonical::quick_gelu<L>(v); });
    case FunctionCode::GELU:
      return apply_each<L>(x, y, n, [](F v) { return canonical::gelu<L>(v); });
    case FunctionCode::EXP:
      return apply_each<L>(x, y, n, [](F v) { return canonical::exp<L>(v); });
    case FunctionCode::SIGMOID:
      return apply_each<L>(x, y, n, [](F v) { return canonical::sigmoid<L>(v); });
    case FunctionCode::ERF:
      return apply_each<L>(x, y, n, [](F v) { return canonical::erf<L>(v); });
  }
}

}  // namespace
}  // namespace comneck

#endif
