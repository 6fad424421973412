// What happens to a finished tile, compiled once for each instruction set (internal linkage, like gemm_tile.h).
#ifndef COMNECK_BACKEND_GEMM_FINISH_H
#define COMNECK_BACKEND_GEMM_FINISH_H

#include <algorithm>
#include <cstdint>

#include "backend/gemm.h"
#include "canonical_math.h"
#include "comneck.h"
#include "lanes.h"

namespace comneck {
namespace {

// Function: Lanes::Float -> Lanes::Float.
template <class L, class Function>
[[gnu::always_inline]] inline void finish_with(const FinishCall &call, Function function) {
  for (int32_t r = 0; r < call.rows; ++r) {
    const float *acc = call.acc + r * kMaxColumns;
    for (int32_t c = 0; c < call.columns; c += L::kWidth) {
      const int32_t left = call.columns - c;
      const bool whole = left >= L::kWidth;
      typename L::Float x = L::load(acc + c);  // the accumulators are padded
      if (call.residual[r] != nullptr) {
        if (call.residual_type == COMNECK_F32) {
          const float *from = reinterpret_cast<const float *>(call.residual[r]) + c;
          x = L::add(x, whole ? L::load(from) : L::load_part(from, left));
        } else {
          const uint16_t *from = reinterpret_cast<const uint16_t *>(call.residual[r]) + c;
          x = L::add(x, whole ? L::load_bf16(from) : L::load_bf16_part(from, left));
        }
      }
      x = function(x);
      if (call.destination_type == COMNECK_F32) {
        float *to = reinterpret_cast<float *>(call.destination[r]) + c;
        if (whole) {
          L::store(to, x);
        } else {
          L::store_part(to, x, left);
        }
      } else {
        uint16_t *to = reinterpret_cast<uint16_t *>(call.destination[r]) + c;
        if (whole) {
          L::store_bf16(to, x);
        } else {
          L::store_bf16_part(to, x, left);
        }
      }
    }
  }
}

template <class L>
void finish_tile(const FinishCall &call) {
  using F = typename L::Float;
  switch (call.function) {
    case COMNECK_RELU:
      return finish_with<L>(call, [](F x) { return canonical::relu<L>(x); });
    case COMNECK_QUICK_GELU:
      return finish_with<L>(call, [](F x) { return canonical::quick_gelu<L>(x); });
    case COMNECK_GELU:
      return finish_with<L>(call, [](F x) { return canonical::gelu<L>(x); });
    default:
      return finish_with<L>(call, [](F x) { return x; });
  }
}

}  // namespace
}  // namespace comneck

#endif
