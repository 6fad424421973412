// Resampling of 8-bit pictures along one axis, in integers: the same bytes as the processor's (org.comneck.backend.Taps).
#ifndef COMNECK_KERNELS_RESAMPLE_H
#define COMNECK_KERNELS_RESAMPLE_H

#include "device.h"

namespace comneck::cuda {

// Output i along the axis = clamp((2^21 + sum over k < count of source[first + k] * weight[k]) >> 22, 0, 255).
// taps: of each output first, count, then `most` weights. Strides in elements: of a position's channels.
struct ResampleCall {
  const uint8_t *source;   // (images, source_height, source_width, source_stride)
  int64_t source_stride;
  int32_t source_height;
  int32_t source_width;
  uint8_t *destination;    // (images, height, width, stride)
  int64_t stride;
  int32_t height;
  int32_t width;
  int32_t images;
  int32_t channels;
  bool rows;               // the axis: rows get other ones, or (false) columns do
  const int32_t *taps;
  int32_t most;
};
cudaError_t resample(const ResampleCall &call, cudaStream_t stream);

}  // namespace comneck::cuda

#endif
