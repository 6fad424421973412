// Transcendental functions as fixed sequences of IEEE binary32 operations: the same bits in every lane, on every
// instruction set, and in Java (org.comneck.backend.reference.CanonicalMath is the twin, line by line).
// docs/arithmetic.md is the definition in words.
//
//   template <class Lanes>                   PortableLanes, Avx2Lanes or Avx512Lanes of lanes.h
//   Lanes::Float exp(Lanes::Float x)         e^x
//   ... sigmoid, quick_gelu, erf, gelu, relu
//
// A NaN gives the one quiet NaN 0x7FC00000 (relu gives 0): which operand's payload survives an addition is up to the
// compiler's order of operands, so no payload may get that far.
#ifndef COMNECK_CANONICAL_MATH_H
#define COMNECK_CANONICAL_MATH_H

#include "lanes.h"

namespace comneck {
namespace {
namespace canonical {

inline constexpr float kQuietNan = __builtin_bit_cast(float, 0x7FC00000u);
inline constexpr float kInfinite = __builtin_bit_cast(float, 0x7F800000u);

// e^x: 0 below -87.3, infinity above 88.72, else within 1 unit in the last place or so. Cody-Waite reduction x = n ln 2
// + r and the polynomial of Cephes' expf; n comes from adding 1.5 * 2^23, which leaves it in the low bits too.
// kNotPositive: the caller knows that no x is above 0, and saves a comparison; the same bits.
template <class L, bool kNotPositive = false>
[[gnu::always_inline]] COMNECK_ANYWHERE inline typename L::Float exp(typename L::Float x) {
  using F = typename L::Float;
  F t = L::fma(x, L::set(1.44269504088896341f), L::set(12582912.0f));
  F n = L::sub(t, L::set(12582912.0f));
  F r = L::fma(n, L::set(-0.693359375f), x);
  r = L::fma(n, L::set(2.12194440e-4f), r);
  F p = L::set(1.9875691500e-4f);
  p = L::fma(p, r, L::set(1.3981999507e-3f));
  p = L::fma(p, r, L::set(8.3334519073e-3f));
  p = L::fma(p, r, L::set(4.1665795894e-2f));
  p = L::fma(p, r, L::set(1.6666665459e-1f));
  p = L::fma(p, r, L::set(5.0000001201e-1f));
  F e = L::add(L::fma(p, L::mul(r, r), r), L::set(1.0f));
  F y = L::add_exponent(e, t);
  y = L::select(L::less(x, L::set(-87.3f)), L::zero(), y);
  if constexpr (!kNotPositive) {
    y = L::select(L::less(L::set(88.72f), x), L::set(kInfinite), y);
  }
  return L::select(L::is_nan(x), L::set(kQuietNan), y);
}

// 1 / (1 + e^-x).
template <class L>
[[gnu::always_inline]] COMNECK_ANYWHERE inline typename L::Float sigmoid(typename L::Float x) {
  return L::div(L::set(1.0f), L::add(L::set(1.0f), exp<L>(L::negate(x))));
}

// x * sigmoid(1.702 x), with x at least -100, where the result is -0: minus infinity gives -0 too, not a NaN.
template <class L>
[[gnu::always_inline]] COMNECK_ANYWHERE inline typename L::Float quick_gelu(typename L::Float x) {
  typename L::Float c = L::max(L::set(-100.0f), x);
  typename L::Float y = L::mul(c, sigmoid<L>(L::mul(L::set(1.702f), c)));
  return L::select(L::is_nan(x), L::set(kQuietNan), y);
}

// t * p(t) of erfc(a) = t * p(t) * e^(-a^2), t = 1 / (1 + 0.38 a), for a >= 0: relative minimax for 0 <= a <= 9.4, error 2e-8 before
// rounding.
template <class L>
[[gnu::always_inline]] COMNECK_ANYWHERE inline typename L::Float erfc_factor(typename L::Float a) {
  static constexpr float kErfc[9] = {0.21440959f,   0.213940993f, 0.203763396f,  0.139171451f, 0.228878587f,
                                     -0.159895957f, 0.362567335f, -0.261684984f, 0.0588496402f};
  using F = typename L::Float;
  F t = L::div(L::set(1.0f), L::fma(L::set(0.38f), a, L::set(1.0f)));
  F p = L::set(kErfc[8]);
  for (int i = 7; i >= 0; i--) {
    p = L::fma(p, t, L::set(kErfc[i]));
  }
  return L::mul(p, t);
}

// Error function: sign(x) * (1 - erfc(|x|)); absolute error below 4e-7.
template <class L>
[[gnu::always_inline]] COMNECK_ANYWHERE inline typename L::Float erf(typename L::Float x) {
  typename L::Float a = L::abs(x);
  typename L::Float y = L::fma(L::negate(erfc_factor<L>(a)), exp<L>(L::negate(L::mul(a, a))), L::set(1.0f));
  return L::select(L::is_nan(x), L::set(kQuietNan), L::copy_sign(y, x));
}

// x * Phi(x) = x/2 * (1 + erf(x / sqrt 2)), by erfc on the negative side, where 1 + erf would cancel. x is at least
// -100, as above.
template <class L>
[[gnu::always_inline]] COMNECK_ANYWHERE inline typename L::Float gelu(typename L::Float x) {
  using F = typename L::Float;
  F c = L::max(L::set(-100.0f), x);
  F tail = erfc_factor<L>(L::mul(L::abs(c), L::set(0.70710678118654752f)));
  F half = L::mul(L::mul(L::set(0.5f), tail), exp<L>(L::mul(L::mul(L::set(-0.5f), c), c)));
  F phi = L::select(L::less(c, L::zero()), half, L::sub(L::set(1.0f), half));
  return L::select(L::is_nan(x), L::set(kQuietNan), L::mul(c, phi));
}

// x > 0 ? x : 0; so -0 and NaN give +0.
template <class L>
[[gnu::always_inline]] COMNECK_ANYWHERE inline typename L::Float relu(typename L::Float x) {
  return L::max(x, L::zero());
}

}  // namespace canonical
}  // namespace
}  // namespace comneck

#endif
