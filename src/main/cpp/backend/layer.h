// Packed weights of one layer.
//
// The taps of a layer fall into phases: one for ordinary convolutions, stride x stride for transposed ones (each phase
// fills the positions with its own remainders of y and x). Output channels fall into panels, as even as possible, of up
// to `kernels.vectors` vectors. Weights lie as
//
//     [phase][panel][tap of the phase, ky then kx ascending][unit of input channels][column of the panel]
//
// where a unit is one f32 channel or a pair of bf16 channels (the last one padded with 0).
#ifndef COMNECK_BACKEND_LAYER_H
#define COMNECK_BACKEND_LAYER_H

#include <cstdint>
#include <vector>

#include "backend/context.h"
#include "backend/memory.h"
#include "comneck.h"

namespace comneck {

// Reads input row y * phase step + dy, column x * step + dx.
struct Tap {
  int32_t dy;
  int32_t dx;
  int32_t ky;
  int32_t kx;
};

struct Phase {
  int32_t y;  // remainder of the output row
  int32_t x;
  std::vector<Tap> taps;
  int64_t offset;  // of its first panel, in units
};

struct Panel {
  int32_t column;   // first output channel
  int32_t vectors;  // width in vectors
};

}  // namespace comneck

struct comneck_layer {
  comneck_context *context = nullptr;
  const comneck::GemmKernels *kernels = nullptr;
  comneck_convolution geometry{};
  int32_t units = 0;        // of input channels at a tap
  int32_t input_step = 1;   // input rows per row of a phase
  int32_t output_step = 1;  // output rows per row of a phase
  std::vector<comneck::Phase> phases;
  std::vector<comneck::Panel> panels;
  int32_t columns = 0;      // output channels, rounded up to vectors
  comneck::Memory weights;  // 32-bit units
  comneck::Memory bias;     // f32 [columns]

  int64_t bytes() const { return weights.bytes() + bias.bytes(); }
};

namespace comneck {

// See comneck_layer_create.
int32_t make_layer(comneck_context *context, const comneck_convolution &geometry, const void *weight,
                   int64_t weight_bytes, int32_t weight_type, const void *bias, int64_t bias_bytes, int32_t bias_type,
                   comneck_layer **result);

}  // namespace comneck

#endif
