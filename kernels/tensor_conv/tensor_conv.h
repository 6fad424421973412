// Convolutions and transposed convolutions in fast arithmetic, on tensor cores: one matrix product whose rows are output positions and whose
// inputs are the channels of one tap after the other, read where they lie (NHWC); no copy of windows is made.
//
//   out[n, p, o] = function(bias[o] + sum over tap, input channel of x * weight [+ residual])      bf16 or fp16 products, f32 sums
//
// A sum goes through taps and their channels in ascending order, sixteen at a time: its bits do not depend on the batch or the tile.
#ifndef COMNECK_KERNELS_TENSOR_CONV_H
#define COMNECK_KERNELS_TENSOR_CONV_H

#include <vector>

#include "canonical_conv/canonical_conv.h"
#include "tensor_gemm/tensor_gemm.h"

namespace comneck::cuda {

// Host: a packed layer's weights, rounded to type, as [phase][output][tap of the phase][input channel]. Empty where tensor_conv does not take
// the layer: half grids, input channels that are no multiple of 8, fewer than 16 outputs, more than kMostGemmInputs inputs.
std::vector<uint16_t> pack_conv_weights(const ConvLayer &layer, int32_t type);

struct TensorConvCall {
  Side source;              // (images, input_height, input_width, channels); F32, which is rounded to type, or type
  Side residual;            // F32 or type; data null: none
  Side destination;         // (images, height, width, outputs); F32 or type
  const uint16_t *weights;  // device, as packed, 16-byte aligned
  const float *bias;        // device, [outputs]
  const ConvTap *taps;      // device
  const ConvPhase *phases;  // device
  int32_t phase_count;
  int32_t channels;
  int32_t outputs;
  int32_t input_height;
  int32_t input_width;
  int32_t input_step;
  int32_t output_step;
  int32_t images;
  int32_t height;  // of the output
  int32_t width;
  int32_t type;    // COMNECK_BF16 or COMNECK_F16
  int32_t function;
};

// Whether a source can be read by whole pieces: rows of 16-bit elements at multiples of 16 bytes, or of F32 likewise.
bool tensor_conv_takes(const Side &source, int32_t type);

// cudaErrorInvalidValue: types other than those above, channels that are no multiple of 8, a source that tensor_conv_takes refuses, sizes that
// are not positive, an output that output_step does not divide.
cudaError_t tensor_conv(const TensorConvCall &call, GemmTile tile, int32_t multiprocessors, cudaStream_t stream);

}  // namespace comneck::cuda

#endif
