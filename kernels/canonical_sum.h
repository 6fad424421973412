// A sum over a row in canonical order (docs/arithmetic.md): sixteen partial sums by index modulo 16, then those in order.
#ifndef COMNECK_KERNELS_CANONICAL_SUM_H
#define COMNECK_KERNELS_CANONICAL_SUM_H

#include "device.h"

namespace comneck::cuda {

constexpr int32_t kPartials = 16;

// The partial sums, which the lanes of each half of a warp hold, in order: every lane has its half's sum. All 32 lanes call it together.
__device__ inline float sum_partials(float partial) {
  const int base = static_cast<int>(threadIdx.x % 32) & ~(kPartials - 1);
  float sum = __shfl_sync(0xFFFFFFFFu, partial, base);
  COMNECK_UNROLL
  for (int i = 1; i < kPartials; i++) sum = sum + __shfl_sync(0xFFFFFFFFu, partial, base + i);
  return sum;
}

}  // namespace comneck::cuda

#endif
