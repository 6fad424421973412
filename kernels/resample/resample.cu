// pixels u8 (B,H,W,C) -> (B,H,w,C) or (B,h,W,C): one thread an element. Neighbouring threads read neighbouring bytes along rows, and bytes
// that lie `scale` pixels apart along columns, which the cache gives them; a photo crosses memory about once, and crossed the bus before.
#include "resample/resample.h"

namespace comneck::cuda {
namespace {

constexpr int64_t kThreads = 256;
constexpr int32_t kPrecisionBits = 22;  // of a weight; comneck_plan_resample makes sure that sums stay within 32 bits

__global__ void resample_each(ResampleCall call) {
  int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const auto c = static_cast<int32_t>(i % call.channels);
  i /= call.channels;
  const int64_t position = i;
  const auto x = static_cast<int32_t>(i % call.width);
  i /= call.width;
  const auto y = static_cast<int32_t>(i % call.height);
  const int64_t n = i / call.height;
  if (n >= call.images) return;
  const int32_t *taps = call.taps + int64_t{call.rows ? y : x} * (call.most + 2);
  const int32_t from_y = call.rows ? taps[0] : y;
  const int32_t from_x = call.rows ? x : taps[0];
  // source[n][from_y][from_x][c], then along the axis
  const uint8_t *from = call.source + ((n * call.source_height + from_y) * call.source_width + from_x) * call.source_stride + c;
  const int64_t step = call.rows ? call.source_width * call.source_stride : call.source_stride;
  int32_t sum = 1 << (kPrecisionBits - 1);
  for (int32_t k = 0; k < taps[1]; k++) sum += from[k * step] * taps[2 + k];
  sum >>= kPrecisionBits;
  sum = sum < 0 ? 0 : sum;
  call.destination[position * call.stride + c] = static_cast<uint8_t>(sum > 255 ? 255 : sum);
}

}  // namespace

cudaError_t resample(const ResampleCall &call, cudaStream_t stream) {
  if (call.images < 0 || call.channels < 1 || call.height < 1 || call.width < 1) return cudaErrorInvalidValue;
  const int64_t blocks = (int64_t{call.images} * call.height * call.width * call.channels + kThreads - 1) / kThreads;
  if (blocks == 0) return cudaSuccess;
  if (blocks > INT32_MAX) return cudaErrorInvalidValue;
  return launch(resample_each, static_cast<unsigned>(blocks), static_cast<unsigned>(kThreads), 0, stream, call);
}

}  // namespace comneck::cuda
