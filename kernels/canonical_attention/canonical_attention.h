// LayerNorm and attention in canonical arithmetic (docs/arithmetic.md): the bits of the cpu backend, plainly. The fast kernels of the
// vision transformer are another matter; these are what f32 results are compared with, and what the encoder runs on until then.
#ifndef COMNECK_KERNELS_CANONICAL_ATTENTION_H
#define COMNECK_KERNELS_CANONICAL_ATTENTION_H

#include "device.h"
#include "elements.h"

namespace comneck::cuda {

// to[row] = fma((x - mean) * (1 / sqrt(variance + epsilon)), weight, bias) over the channels of each row.
cudaError_t layer_norm(const Side &from, const float *weight, const float *bias, float epsilon, const Side &to, int64_t rows,
                       int32_t channels, cudaStream_t stream);

// qkv (B,N,3C) -> scores (B,H,N,N) -> to (B,N,C); channels of qkv are q, k, v, each heads x depth. A row of scores lies in shared memory:
// tokens + depth <= 50,000.
cudaError_t attention(const Side &qkv, const Side &to, int32_t images, int32_t tokens, int32_t heads, int32_t depth, cudaStream_t stream);

}  // namespace comneck::cuda

#endif
