// LayerNorm in canonical arithmetic (docs/arithmetic.md), with the bits of the cpu backend; of tokens that are put together on the way, too.
// An F32 row of at most 1,792 channels that becomes F32 is read once, stays in registers and is written once; any other is read three times.
//
//   to[row] = fma((x - mean) * (1 / sqrt(variance + epsilon)), weight, bias)          sums in sixteen partial sums, then those in order
#ifndef COMNECK_KERNELS_CANONICAL_NORM_H
#define COMNECK_KERNELS_CANONICAL_NORM_H

#include "device.h"
#include "elements.h"

namespace comneck::cuda {

// x = from[row]. Sides: F32, BF16 or F16; from and to may be one. A row's bits depend on nothing beside it.
// cudaErrorInvalidValue: less than no row, no channel, more rows than a launch has.
cudaError_t layer_norm(const Side &from, const float *weight, const float *bias, float epsilon, const Side &to, int64_t rows,
                       int32_t channels, cudaStream_t stream);

// from (B,tokens - shift,C) -> x (B,tokens,C) -> to (B,tokens,C), the bits of embed (elementwise.h) to F32 and then layer_norm:
// x[n,t] = (t < shift ? class_token : from[n,t - shift]) + table[t]; shift: 1 with a class token, else 0. rows: B * tokens. from and to
// do not overlap.
// cudaErrorInvalidValue: what layer_norm refuses, another shift, no token to a row.
cudaError_t embed_norm(const Side &from, const float *class_token, const float *table, int64_t tokens, int32_t shift, const float *weight,
                       const float *bias, float epsilon, const Side &to, int64_t rows, int32_t channels, cudaStream_t stream);

}  // namespace comneck::cuda

#endif
