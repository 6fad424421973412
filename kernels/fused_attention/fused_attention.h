// Attention in fast arithmetic: from the QKV projection's output to the attention's output in one kernel, scores never leave registers.
//
//   qkv (B,N,3,H,64) -> softmax(q k^T / 8) v -> to (B,N,H,64)          bf16 or fp16 in memory, f32 sums and softmax
//
// fused_attention.cu: FlashAttention-2's order (arXiv 2307.08691): a warp keeps 16 queries and walks over the keys, 64 at a time, with an online softmax.
// fused_attention_sm90.cu: the same for Hopper. attention_rows.h: what both do with a row's scores.
#ifndef COMNECK_KERNELS_FUSED_ATTENTION_H
#define COMNECK_KERNELS_FUSED_ATTENTION_H

#include "device.h"
#include "elements.h"

namespace comneck::cuda {

// Whether fused_attention takes these: BF16 or F16 on both sides, heads of 64 channels, 16-byte aligned rows.
bool fused_attention_takes(const Side &qkv, const Side &to, int32_t depth);

// Which instructions multiply. A row's bits depend on this alone, not on the other images or on how a kernel is divided into blocks.
enum class AttentionKernel {
  kMma,      // mma.sync, sm_80 and later
  kWgmma,    // wgmma and TMA, sm_90a alone; 64 or 128 queries a block, by how many there are
  kWgmma64,  // with 64 queries
  kWgmma128
};

// tokens: any number from 0 on; nothing beyond images * tokens rows is read or written. A row whose scores hold a NaN or +infinity, or
// nothing but -infinity, becomes NaN, as softmax has it. depth: of a head, 64.
// cudaErrorInvalidValue: what fused_attention_takes refuses, more than 65,535 heads or images, or wgmma without has_wgmma (hopper.h).
cudaError_t fused_attention(const Side &qkv, const Side &to, int32_t images, int32_t tokens, int32_t heads, int32_t depth,
                            AttentionKernel kernel, int32_t multiprocessors, cudaStream_t stream);

// Its part for sm_90a; groups: 1 or 2, of 64 queries each, share a block.
cudaError_t fused_attention_wgmma(const Side &qkv, const Side &to, int32_t images, int32_t tokens, int32_t heads, int32_t groups,
                                  cudaStream_t stream);

}  // namespace comneck::cuda

#endif
