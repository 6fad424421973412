// LayerNorm in fast arithmetic, in front of a layer on tensor cores: a row is read once and written once.
//
//   to[row] = (x - mean) / sqrt(variance + epsilon) * weight + bias          f32 in memory, f32 sums, bf16 or fp16 out
#ifndef COMNECK_KERNELS_ROW_NORM_H
#define COMNECK_KERNELS_ROW_NORM_H

#include "device.h"
#include "elements.h"

namespace comneck::cuda {

// Whether row_norm takes these: F32 to BF16 or F16, channels in fours and at most 2,048, rows aligned to four elements.
bool row_norm_takes(const Side &from, const Side &to, int32_t channels);

// weight and bias: 16-byte aligned. A row's bits depend on nothing beside it. cudaErrorInvalidValue: what row_norm_takes refuses.
cudaError_t row_norm(const Side &from, const float *weight, const float *bias, float epsilon, const Side &to, int64_t rows, int32_t channels,
                     cudaStream_t stream);

}  // namespace comneck::cuda

#endif
