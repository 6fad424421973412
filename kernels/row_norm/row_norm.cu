// A warp has a row in its registers, four neighbours a lane at a time: the mean, then the variance around it, then the result, without a
// second look at memory. Nothing is shared between warps.
#include "row_norm/row_norm.h"

#include "tensor_core.h"

namespace comneck::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr int32_t kPiece = 32 * 4;  // channels that a warp takes at once
constexpr int32_t kMostPieces = 16;

__device__ inline float warp_sum(float x) {
  COMNECK_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) x = x + __shfl_xor_sync(0xFFFFFFFFu, x, distance);
  return x;
}

template <class T, int kPieces>
__global__ void __launch_bounds__(kThreads) normalize_row(const float *from, int64_t from_stride, const float *__restrict__ weight,
                                                          const float *__restrict__ bias, float epsilon, uint16_t *to, int64_t to_stride,
                                                          int64_t rows, int32_t channels) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (row >= rows) return;  // the whole warp
  const int32_t first = static_cast<int32_t>(threadIdx.x % 32) * 4;
  float4 x[kPieces];
  float total = 0.0f;
  COMNECK_UNROLL
  for (int i = 0; i < kPieces; i++) {
    const int32_t c = i * kPiece + first;
    x[i] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (c < channels) x[i] = *reinterpret_cast<const float4 *>(from + row * from_stride + c);
    total = total + ((x[i].x + x[i].y) + (x[i].z + x[i].w));
  }
  const float mean = warp_sum(total) / static_cast<float>(channels);
  float squares = 0.0f;
  COMNECK_UNROLL
  for (int i = 0; i < kPieces; i++) {
    if (i * kPiece + first >= channels) continue;
    x[i] = {x[i].x - mean, x[i].y - mean, x[i].z - mean, x[i].w - mean};
    squares = fmaf(x[i].x, x[i].x, squares);
    squares = fmaf(x[i].y, x[i].y, squares);
    squares = fmaf(x[i].z, x[i].z, squares);
    squares = fmaf(x[i].w, x[i].w, squares);
  }
  const float inverse = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(channels) + epsilon);
  COMNECK_UNROLL
  for (int i = 0; i < kPieces; i++) {
    const int32_t c = i * kPiece + first;
    if (c >= channels) continue;
    const float4 w = *reinterpret_cast<const float4 *>(weight + c);
    const float4 b = *reinterpret_cast<const float4 *>(bias + c);
    *reinterpret_cast<uint2 *>(to + row * to_stride + c) = {
        pack_pair<T>(fmaf(x[i].x * inverse, w.x, b.x), fmaf(x[i].y * inverse, w.y, b.y)),
        pack_pair<T>(fmaf(x[i].z * inverse, w.z, b.z), fmaf(x[i].w * inverse, w.w, b.w))};
  }
}

template <class T, int kPieces>
cudaError_t launch_rows(const Side &from, const float *weight, const float *bias, float epsilon, const Side &to, int64_t rows, int32_t channels,
                        cudaStream_t stream) {
  return launch(normalize_row<T, kPieces>, static_cast<unsigned>((rows + kWarps - 1) / kWarps), kThreads, 0, stream,
                static_cast<const float *>(from.data), from.stride, weight, bias, epsilon,
                static_cast<uint16_t *>(const_cast<void *>(to.data)), to.stride, rows, channels);
}

template <class T>
cudaError_t launch_type(const Side &from, const float *weight, const float *bias, float epsilon, const Side &to, int64_t rows, int32_t channels,
                        cudaStream_t stream) {
  const auto rows_of = channels <= 2 * kPiece   ? launch_rows<T, 2>
                       : channels <= 6 * kPiece ? launch_rows<T, 6>
                       : channels <= 8 * kPiece ? launch_rows<T, 8>
                                                : launch_rows<T, kMostPieces>;
  return rows_of(from, weight, bias, epsilon, to, rows, channels, stream);
}

}  // namespace

bool row_norm_takes(const Side &from, const Side &to, int32_t channels) {
  const auto aligned = [](const Side &side, uintptr_t bytes) { return reinterpret_cast<uintptr_t>(side.data) % bytes == 0 && side.stride % 4 == 0; };
  return from.type == COMNECK_F32 && (to.type == COMNECK_BF16 || to.type == COMNECK_F16) && channels >= 4 && channels % 4 == 0 &&
         channels <= kMostPieces * kPiece && aligned(from, 16) && aligned(to, 8);
}

cudaError_t row_norm(const Side &from, const float *weight, const float *bias, float epsilon, const Side &to, int64_t rows, int32_t channels,
                     cudaStream_t stream) {
  if (!row_norm_takes(from, to, channels) || rows < 0 || rows > int64_t{INT32_MAX} * kWarps || reinterpret_cast<uintptr_t>(weight) % 16 != 0 ||
      reinterpret_cast<uintptr_t>(bias) % 16 != 0) {
    return cudaErrorInvalidValue;
  }
  if (rows == 0) return cudaSuccess;
  return (to.type == COMNECK_BF16 ? launch_type<Bf16> : launch_type<F16>)(from, weight, bias, epsilon, to, rows, channels, stream);
}

}  // namespace comneck::cuda
