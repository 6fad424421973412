#include "elementwise/elementwise.h"

#include "grids.h"

namespace comneck::cuda {
namespace {

constexpr int64_t kThreads = 256;

// Elements of a launch: rows x channels, channels innermost.
struct Element {
  int64_t row;
  int32_t c;
};

__device__ bool element_of(Extent extent, Element *element) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  *element = {i / extent.channels, static_cast<int32_t>(i % extent.channels)};
  return element->row < extent.rows;
}

__global__ void gate_each(Side a, Side b, Side x, Side to, Extent extent) {
  Element e;
  if (!element_of(extent, &e)) return;
  store(to, e.row, e.c, fmaf(load(a, e.row, e.c), canonical::sigmoid<PortableLanes>(load(b, e.row, e.c)), load(x, e.row, e.c)));
}

__global__ void add_each(Side a, Side b, Side to, Extent extent) {
  Element e;
  if (!element_of(extent, &e)) return;
  store(to, e.row, e.c, load(a, e.row, e.c) + load(b, e.row, e.c));
}

__global__ void scale_each(Side from, Side gains, Side to, Extent extent, int64_t positions) {
  Element e;
  if (!element_of(extent, &e)) return;
  store(to, e.row, e.c, load(from, e.row, e.c) * load(gains, e.row / positions, e.c));
}

__global__ void copy_each(Side from, int64_t from_positions, int64_t first, Side to, int64_t to_positions, Extent extent) {
  Element e;
  if (!element_of(extent, &e)) return;
  const int64_t source = e.row / to_positions * from_positions + first + e.row % to_positions;
  if (from.type == COMNECK_BF16 && to.type == COMNECK_BF16) {  // bits, whatever they are
    static_cast<uint16_t *>(const_cast<void *>(to.data))[e.row * to.stride + e.c] =
        static_cast<const uint16_t *>(from.data)[source * from.stride + e.c];
  } else {
    store(to, e.row, e.c, load(from, source, e.c));
  }
}

__global__ void embed_each(Side from, const float *class_token, const float *table, Side to, int64_t tokens, int32_t shift, Extent extent) {
  Element e;
  if (!element_of(extent, &e)) return;
  const int64_t n = e.row / tokens;
  const int64_t token = e.row % tokens;
  const float value = token < shift ? class_token[e.c] : load(from, n * (tokens - shift) + token - shift, e.c);
  store(to, e.row, e.c, value + table[token * extent.channels + e.c]);
}

__global__ void normalize_each(const uint8_t *pixels, int64_t pixels_stride, const float *mean, const float *deviation, Side to,
                               Extent extent) {
  Element e;
  if (!element_of(extent, &e)) return;
  const float value = static_cast<float>(pixels[e.row * pixels_stride + e.c]) / 255.0f;
  store(to, e.row, e.c, (value - mean[e.c]) / deviation[e.c]);
}

__global__ void to_pixels_each(Side from, uint8_t *pixels, int64_t pixels_stride, Extent extent) {
  Element e;
  if (!element_of(extent, &e)) return;
  float value = load(from, e.row, e.c);
  value = value > 0.0f ? value : 0.0f;
  value = value < 1.0f ? value : 1.0f;
  pixels[e.row * pixels_stride + e.c] = static_cast<uint8_t>(static_cast<int32_t>(value * 255.0f + 0.5f));
}

__global__ void quantize_each(QuantizeCall call) {
  Element e;
  if (!element_of({int64_t{call.images} * call.positions, call.channels}, &e)) return;
  const bool gaussian = call.thresholds != nullptr;
  const int64_t n = e.row / call.positions;
  const Place place = place_of(call.grid, call.width, static_cast<int32_t>(e.row % call.positions));
  const int64_t full = (n * call.height + place.y) * call.width + place.x;
  const float mean = gaussian ? call.means[e.row * call.means_stride + e.c] : call.means[e.c];
  if (gaussian) {
    const float deviation = call.means[e.row * call.means_stride + call.channels + e.c];
    int32_t index = 0;
    for (int32_t t = 0; t < call.threshold_count; t++) index += call.thresholds[t] < deviation ? 1 : 0;
    call.indices[e.row * call.indices_stride + e.c] = static_cast<uint8_t>(index);
  }
  float x = call.values[full * call.values_stride + e.c] - mean;
  x = x == x ? x : 0.0f;
  x = x > -32768.0f ? x : -32768.0f;
  x = x < 32767.0f ? x : 32767.0f;
  // 1.5 * 2^23 leaves no bits for a fraction: adding it rounds half to even, subtracting it is exact
  const int32_t symbol = static_cast<int32_t>((x + 12582912.0f) - 12582912.0f);
  call.symbols[e.row * call.symbols_stride + e.c] = static_cast<int16_t>(symbol);
  call.hat[full * call.hat_stride + e.c] = static_cast<float>(symbol) + mean;
}

template <class... Parameters, class... Arguments>
cudaError_t launch_each(void (*kernel)(Parameters...), Extent extent, cudaStream_t stream, const Arguments &...arguments) {
  if (extent.rows < 0 || extent.channels < 1) return cudaErrorInvalidValue;
  const int64_t blocks = (extent.rows * extent.channels + kThreads - 1) / kThreads;
  if (blocks == 0) return cudaSuccess;
  if (blocks > INT32_MAX) return cudaErrorInvalidValue;
  return launch(kernel, static_cast<unsigned>(blocks), static_cast<unsigned>(kThreads), 0, stream, arguments...);
}

}  // namespace

cudaError_t gate(const Side &a, const Side &b, const Side &x, const Side &to, Extent extent, cudaStream_t stream) {
  return launch_each(gate_each, extent, stream, a, b, x, to, extent);
}

cudaError_t add(const Side &a, const Side &b, const Side &to, Extent extent, cudaStream_t stream) {
  return launch_each(add_each, extent, stream, a, b, to, extent);
}

cudaError_t scale(const Side &from, const Side &gains, const Side &to, Extent extent, int64_t positions, cudaStream_t stream) {
  return launch_each(scale_each, extent, stream, from, gains, to, extent, positions);
}

cudaError_t copy(const Side &from, int64_t from_positions, int64_t first, const Side &to, int64_t to_positions, Extent extent,
                 cudaStream_t stream) {
  return launch_each(copy_each, extent, stream, from, from_positions, first, to, to_positions, extent);
}

cudaError_t embed(const Side &from, const float *class_token, const float *table, const Side &to, int64_t tokens, int32_t shift,
                  Extent extent, cudaStream_t stream) {
  return launch_each(embed_each, extent, stream, from, class_token, table, to, tokens, shift, extent);
}

cudaError_t normalize(const uint8_t *pixels, int64_t pixels_stride, const float *mean, const float *deviation, const Side &to, Extent extent,
                      cudaStream_t stream) {
  return launch_each(normalize_each, extent, stream, pixels, pixels_stride, mean, deviation, to, extent);
}

cudaError_t to_pixels(const Side &from, uint8_t *pixels, int64_t pixels_stride, Extent extent, cudaStream_t stream) {
  return launch_each(to_pixels_each, extent, stream, from, pixels, pixels_stride, extent);
}

cudaError_t quantize(const QuantizeCall &call, cudaStream_t stream) {
  return launch_each(quantize_each, {int64_t{call.images} * call.positions, call.channels}, stream, call);
}

}  // namespace comneck::cuda
