// Convolution, transposed convolution and linear layer in canonical arithmetic (docs/arithmetic.md): the bits of the cpu backend.
//
//   out[n, p, o] = function(bias[o] + sum over tap, input channel of x * weight [+ residual])
//
// One matrix product with a list of taps: rows are output positions of all images, columns output channels, and one chain of fmaf for
// each element goes through taps, sources and channels in ascending order: no split of k, no tensor cores. Sources are read where they lie
// (NHWC, any stride, so that concatenation, slices of channels and half grids cost nothing); a tap outside of the input is skipped.
#ifndef COMNECK_KERNELS_CANONICAL_CONV_H
#define COMNECK_KERNELS_CANONICAL_CONV_H

#include <vector>

#include "comneck.h"
#include "device.h"
#include "elements.h"

namespace comneck::cuda {

constexpr int32_t kMostSources = 4;

// A tap reads input row y * input_step + dy, column x * input_step + dx of output place (y, x) of the phase.
struct ConvTap {
  int32_t dy;
  int32_t dx;
};

// Transposed layers have stride x stride phases, each with its own remainders of the output's row and column, others one.
struct ConvPhase {
  int32_t y;
  int32_t x;
  int32_t first_tap;
  int32_t taps;
};

// Weights of one layer: [tap of all phases][input channel][column], columns being the output channels rounded up to 4.
struct ConvLayer {
  comneck_convolution geometry;
  int32_t columns;
  int32_t input_step;
  int32_t output_step;
  std::vector<ConvTap> taps;
  std::vector<ConvPhase> phases;
  std::vector<float> weights;
  std::vector<float> bias;  // [columns]
};

// Host: weight and bias as f32 in PyTorch's layout; a BF16 layer's weights are rounded to bf16. The geometry is a sound one.
ConvLayer pack_layer(const comneck_convolution &geometry, const float *weight, const float *bias);

struct ConvSource {
  Side side;
  int32_t channels;
  int32_t first;        // of the layer's input channels
  bool same_positions;  // its position p feeds output position p; otherwise it is a full grid
};

struct ConvCall {
  ConvSource sources[kMostSources];  // present ones, in order
  int32_t source_count;
  const float *weights;       // device
  const float *bias;          // device
  const ConvTap *taps;        // device
  const ConvPhase *phases;    // device
  int32_t phase_count;
  int32_t input_channels;     // absent ones included
  int32_t outputs;
  int32_t columns;
  int32_t input_height;
  int32_t input_width;
  int32_t input_step;
  int32_t output_step;
  int32_t images;
  int32_t grid;    // of the output
  int32_t height;  // of the output's full grid
  int32_t width;
  int32_t positions;  // of the output's grid
  bool rounded;    // inputs are rounded to bf16 first
  Side residual;  // data null: none
  int32_t function;   // COMNECK_NONE, ...
  Side destination;
};

// Tiles of the kernel. A layer on few positions is bound by latency: many small tiles; else by arithmetic: large ones. Same bits.
enum class ConvTile { kAuto, kSmall, kLarge };

// multiprocessors: of the device, for the choice of the tile.
cudaError_t canonical_conv(const ConvCall &call, ConvTile tile, int32_t multiprocessors, cudaStream_t stream);

}  // namespace comneck::cuda

#endif
