// Attention in canonical arithmetic (docs/arithmetic.md): the bits of the cpu backend, plainly. What f32 runs on; bf16 and fp16 have
// fused_attention.
#ifndef COMNECK_KERNELS_CANONICAL_ATTENTION_H
#define COMNECK_KERNELS_CANONICAL_ATTENTION_H

#include "device.h"
#include "elements.h"

namespace comneck::cuda {

// qkv (B,N,3C) -> scores (B,H,N,N) -> to (B,N,C); channels of qkv are q, k, v, each heads x depth. A row of scores lies in shared memory:
// tokens + depth <= 50,000.
cudaError_t attention(const Side &qkv, const Side &to, int32_t images, int32_t tokens, int32_t heads, int32_t depth, cudaStream_t stream);

}  // namespace comneck::cuda

#endif
