// Linear layers in fast arithmetic, on tensor cores:
//
//   to[r, o] = function(sum over k of x[r, k] * weight[o, k] + bias[o] [+ residual[r, o]])          bf16 or fp16 products, f32 sums
//
// An element's sum goes through k in ascending order, sixteen at a time, whatever the tile: its bits depend on neither the number of rows
// nor on where its row lies.
#ifndef COMNECK_KERNELS_TENSOR_GEMM_H
#define COMNECK_KERNELS_TENSOR_GEMM_H

#include <vector>

#include "comneck.h"
#include "device.h"
#include "elements.h"

namespace comneck::cuda {

constexpr int64_t kMostGemmInputs = int64_t{1} << 24;

// Elements of a packed row of weights: inputs rounded up to whole pieces of 16 bytes.
__host__ __device__ constexpr int64_t gemm_depth(int64_t inputs) { return (inputs + 7) / 8 * 8; }

// Host: weight [outputs][inputs] rounded to type (COMNECK_BF16 or COMNECK_F16) as [outputs][gemm_depth(inputs)].
std::vector<uint16_t> pack_gemm_weights(const float *weight, int64_t outputs, int64_t inputs, int32_t type);

// Sources whose rows are patches of pictures, without a copy of them: k of row r = (image, down, across) is element
// image * image_stride + down * down_stride + across * run + k / run * line_stride + k % run.
struct Patches {
  int32_t run;  // elements of a line of a patch; 0: rows are rows
  int32_t down, across;  // patches of an image
  int64_t line_stride, down_stride, image_stride;
};

struct GemmCall {
  Side source;              // F32, which is rounded to type, or type; fastest as type with 16-byte aligned rows
  const uint16_t *weights;  // device, as packed, 16-byte aligned
  const float *bias;        // device, [outputs]
  Side residual;            // F32 or type; data null: none
  Side destination;         // F32 or type
  int64_t rows;
  int32_t inputs;
  int32_t outputs;
  int32_t type;             // COMNECK_BF16 or COMNECK_F16
  int32_t function;         // COMNECK_NONE, ...
  Patches patches;          // run 0, or where source's rows lie, whose stride says nothing then
};

// Blocks of 64 x 64 outputs, or of 128 x 128, of mma.sync (sm_80 and later) or of wgmma and TMA (sm_90a alone; what tensor_gemm_wgmma_takes refuses
// takes mma.sync then). The same bits in both sizes.
enum class GemmTile { kAuto, kSmall, kLarge, kWgmma, kWgmmaSmall, kWgmmaLarge };

// cudaErrorInvalidValue: types other than those above, negative sizes, misaligned weights. multiprocessors: of the device, for the tile.
cudaError_t tensor_gemm(const GemmCall &call, GemmTile tile, int32_t multiprocessors, cudaStream_t stream);

// Its part for sm_90a. Takes sources of the call's type with 16-byte aligned rows that TMA can number, where has_wgmma (hopper.h).
bool tensor_gemm_wgmma_takes(const GemmCall &call);
cudaError_t tensor_gemm_wgmma(const GemmCall &call, bool large, cudaStream_t stream);

}  // namespace comneck::cuda

#endif
