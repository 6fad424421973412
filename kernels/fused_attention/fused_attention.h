// Attention in fast arithmetic: from the QKV projection's output to the attention's output in one kernel, scores never leave registers.
//
//   qkv (B,N,3,H,64) -> softmax(q k^T / 8) v -> to (B,N,H,64)          bf16 or fp16 in memory, f32 sums and softmax
//
// FlashAttention-2's order (arXiv 2307.08691): a warp keeps 16 queries and walks over the keys, 64 at a time, with an online softmax.
#ifndef COMNECK_KERNELS_FUSED_ATTENTION_H
#define COMNECK_KERNELS_FUSED_ATTENTION_H

#include "device.h"
#include "elements.h"

namespace comneck::cuda {

// Whether fused_attention takes these: BF16 or F16 on both sides, heads of 64 channels, 16-byte aligned rows.
bool fused_attention_takes(const Side &qkv, const Side &to, int32_t depth);

// tokens: any number from 0 on; nothing beyond images * tokens rows is read or written. A row whose scores hold a NaN or +infinity, or
// nothing but -infinity, becomes NaN, as softmax has it. depth: of a head, 64.
// cudaErrorInvalidValue: what fused_attention_takes refuses, or more than 65,535 heads or images.
cudaError_t fused_attention(const Side &qkv, const Side &to, int32_t images, int32_t tokens, int32_t heads, int32_t depth,
                            cudaStream_t stream);

}  // namespace comneck::cuda

#endif
