// The steps that compute each element for itself (docs/arithmetic.md): one thread an element, rows x channels of them.
#ifndef COMNECK_KERNELS_ELEMENTWISE_H
#define COMNECK_KERNELS_ELEMENTWISE_H

#include "device.h"
#include "elements.h"

namespace comneck::cuda {

// rows: images x positions. Sides: F32 or BF16.
struct Extent {
  int64_t rows;
  int32_t channels;
};

// to = fma(a, sigmoid(b), x)
cudaError_t gate(const Side &a, const Side &b, const Side &x, const Side &to, Extent extent, cudaStream_t stream);

// to = a + b
cudaError_t add(const Side &a, const Side &b, const Side &to, Extent extent, cudaStream_t stream);

// to[n,p,c] = from[n,p,c] * gains[n,c]
cudaError_t scale(const Side &from, const Side &gains, const Side &to, Extent extent, int64_t positions, cudaStream_t stream);

// to[n,p,c] = from[n,first + p,c], positions counted of each image.
cudaError_t copy(const Side &from, int64_t from_positions, int64_t first, const Side &to, int64_t to_positions, Extent extent,
                 cudaStream_t stream);

// to[n,t,c] = (t < shift ? class_token[c] : from[n,t - shift,c]) + table[t,c]; shift: 1 with a class token, else 0.
cudaError_t embed(const Side &from, const float *class_token, const float *table, const Side &to, int64_t tokens, int32_t shift,
                  Extent extent, cudaStream_t stream);

// to = (u8 / 255 - mean[c]) / deviation[c]
cudaError_t normalize(const uint8_t *pixels, int64_t pixels_stride, const float *mean, const float *deviation, const Side &to, Extent extent,
                      cudaStream_t stream);

// pixels = (int) (clamp(x, 0, 1) * 255 + 0.5); NaN: 0
cudaError_t to_pixels(const Side &from, uint8_t *pixels, int64_t pixels_stride, Extent extent, cudaStream_t stream);

// symbol = rint(value - mean), saturated to 16 bits, NaN: 0; hat = symbol + mean. Gaussian where thresholds is not null: means (n,p,2C) on
// the coded grid, values and hat on the full one; index = how many thresholds are smaller than the scale. Else means are one a channel and
// all sides lie on one grid.
struct QuantizeCall {
  const float *values;
  int64_t values_stride;
  const float *means;
  int64_t means_stride;
  const float *thresholds;
  int32_t threshold_count;
  uint8_t *indices;
  int64_t indices_stride;
  int16_t *symbols;
  int64_t symbols_stride;
  float *hat;
  int64_t hat_stride;
  int32_t images;
  int32_t grid;
  int32_t height;
  int32_t width;
  int32_t positions;  // of the coded grid
  int32_t channels;
};
cudaError_t quantize(const QuantizeCall &call, cudaStream_t stream);

}  // namespace comneck::cuda

#endif
