// Half a warp has a row: the canonical order of a sum is sixteen chains, a lane's channels lane, lane + 16, lane + 32, ... are one of them, and
// what a lane adds up it also normalises and stores. So the row stays in the lanes' registers, and lanes exchange partial sums only. A block is
// one warp: 257 rows are 129 blocks, about as many as a large device has multiprocessors.
#include "canonical_norm/canonical_norm.h"

#include "canonical_sum.h"

namespace comneck::cuda {
namespace {

constexpr int32_t kThreads = 32;
constexpr int64_t kRows = kThreads / kPartials;
constexpr int32_t kMostValues = 128;

// Where the elements of a row come from.
struct Source {
  Side from;
  const float *class_token;
  const float *table;  // null: rows as they are
  int64_t tokens;
  int32_t shift;
};

// One row: data[at + c], plus table[c] where tokens are put together.
struct Line {
  const void *data;
  int32_t type;
  int64_t at;
  const float *table;
};

template <bool kEmbeds>
__device__ inline Line line_of(const Source &source, int64_t row, int32_t channels) {
  if constexpr (!kEmbeds) return {source.from.data, source.from.type, row * source.from.stride, nullptr};
  const int64_t n = row / source.tokens;
  const int64_t token = row % source.tokens;
  const float *table = source.table + token * channels;
  if (token < source.shift) return {source.class_token, COMNECK_F32, 0, table};
  return {source.from.data, source.from.type, (n * (source.tokens - source.shift) + token - source.shift) * source.from.stride, table};
}

template <bool kEmbeds, int32_t kType>
__device__ inline float value_of(const Line &line, int32_t c) {
  const float value = load_element(line.data, kType, line.at + c);
  if constexpr (kEmbeds) return value + line.table[c];
  return value;
}

// A lane's channels of a row in registers. The type is asked for once, so that all loads are on their way together.
template <bool kEmbeds, int32_t kType, int kValues>
__device__ inline void gather(const Line &line, int32_t first, int32_t channels, float (&x)[kValues]) {
  COMNECK_UNROLL
  for (int i = 0; i < kValues; i++) {
    const int32_t c = first + i * kPartials;
    x[i] = c < channels ? value_of<kEmbeds, kType>(line, c) : 0.0f;
  }
}

template <int32_t kType, int kValues>
__device__ inline void scatter(const float (&x)[kValues], float inverse, const float *__restrict__ weight, const float *__restrict__ bias,
                               const Side &to, int64_t row, int32_t first, int32_t channels) {
  COMNECK_UNROLL
  for (int i = 0; i < kValues; i++) {
    const int32_t c = first + i * kPartials;
    if (c < channels) store_element(const_cast<void *>(to.data), kType, row * to.stride + c, fmaf(x[i] * inverse, weight[c], bias[c]));
  }
}

// kValues: registers a lane has for its channels.
template <bool kEmbeds, int kValues>
__global__ void __launch_bounds__(kThreads) normalize_held(Source source, const float *__restrict__ weight, const float *__restrict__ bias,
                                                           float epsilon, Side to, int64_t rows, int32_t channels) {
  const int32_t first = static_cast<int32_t>(threadIdx.x % kPartials);
  const int64_t row = int64_t{blockIdx.x} * kRows + threadIdx.x / kPartials;
  const int32_t here = row < rows ? channels : 0;  // a half without a row goes along: the other one needs its lanes for the shuffles
  float x[kValues];
  if (here > 0) {
    const Line line = line_of<kEmbeds>(source, row, channels);
    switch (line.type) {
      case COMNECK_F32: gather<kEmbeds, COMNECK_F32>(line, first, channels, x); break;
      case COMNECK_F16: gather<kEmbeds, COMNECK_F16>(line, first, channels, x); break;
      default: gather<kEmbeds, COMNECK_BF16>(line, first, channels, x); break;
    }
  }
  float partial = 0.0f;
  COMNECK_UNROLL
  for (int i = 0; i < kValues; i++) {
    if (first + i * kPartials < here) partial = partial + x[i];
  }
  const float mean = sum_partials(partial) / static_cast<float>(channels);
  partial = 0.0f;
  COMNECK_UNROLL
  for (int i = 0; i < kValues; i++) {
    if (first + i * kPartials >= here) continue;
    x[i] = x[i] - mean;
    partial = fmaf(x[i], x[i], partial);
  }
  const float variance = sum_partials(partial) / static_cast<float>(channels);
  const float inverse = 1.0f / sqrtf(variance + epsilon);
  switch (to.type) {
    case COMNECK_F32: scatter<COMNECK_F32>(x, inverse, weight, bias, to, row, first, here); break;
    case COMNECK_F16: scatter<COMNECK_F16>(x, inverse, weight, bias, to, row, first, here); break;
    default: scatter<COMNECK_BF16>(x, inverse, weight, bias, to, row, first, here); break;
  }
}

// A row of any width, read three times.
template <bool kEmbeds>
__global__ void __launch_bounds__(kThreads) normalize_wide(Source source, const float *weight, const float *bias, float epsilon, Side to,
                                                           int64_t rows, int32_t channels) {
  const int32_t first = static_cast<int32_t>(threadIdx.x % kPartials);
  const int64_t row = int64_t{blockIdx.x} * kRows + threadIdx.x / kPartials;
  const int32_t here = row < rows ? channels : 0;
  const Line line = line_of<kEmbeds>(source, row, channels);
  const auto value = [&](int32_t c) {
    return line.type == COMNECK_F32   ? value_of<kEmbeds, COMNECK_F32>(line, c)
           : line.type == COMNECK_F16 ? value_of<kEmbeds, COMNECK_F16>(line, c)
                                      : value_of<kEmbeds, COMNECK_BF16>(line, c);
  };
  float partial = 0.0f;
  for (int32_t c = first; c < here; c += kPartials) partial = partial + value(c);
  const float mean = sum_partials(partial) / static_cast<float>(channels);
  partial = 0.0f;
  for (int32_t c = first; c < here; c += kPartials) {
    const float d = value(c) - mean;
    partial = fmaf(d, d, partial);
  }
  const float variance = sum_partials(partial) / static_cast<float>(channels);
  const float inverse = 1.0f / sqrtf(variance + epsilon);
  for (int32_t c = first; c < here; c += kPartials) store(to, row, c, fmaf((value(c) - mean) * inverse, weight[c], bias[c]));
}

template <bool kEmbeds>
cudaError_t normalize(const Source &source, const float *weight, const float *bias, float epsilon, const Side &to, int64_t rows,
                      int32_t channels, cudaStream_t stream) {
  if (rows < 0 || channels < 1 || rows > kRows * INT32_MAX) return cudaErrorInvalidValue;
  if (rows == 0) return cudaSuccess;
  const auto kernel = channels <= 16 * kPartials            ? normalize_held<kEmbeds, 16>
                      : channels <= 48 * kPartials          ? normalize_held<kEmbeds, 48>
                      : channels <= 64 * kPartials          ? normalize_held<kEmbeds, 64>
                      : channels <= kMostValues * kPartials ? normalize_held<kEmbeds, kMostValues>
                                                            : normalize_wide<kEmbeds>;
  return launch(kernel, static_cast<unsigned>((rows + kRows - 1) / kRows), kThreads, 0, stream, source, weight, bias, epsilon, to, rows, channels);
}

}  // namespace

cudaError_t layer_norm(const Side &from, const float *weight, const float *bias, float epsilon, const Side &to, int64_t rows,
                       int32_t channels, cudaStream_t stream) {
  return normalize<false>({from, nullptr, nullptr, 1, 0}, weight, bias, epsilon, to, rows, channels, stream);
}

cudaError_t embed_norm(const Side &from, const float *class_token, const float *table, int64_t tokens, int32_t shift, const float *weight,
                       const float *bias, float epsilon, const Side &to, int64_t rows, int32_t channels, cudaStream_t stream) {
  if (shift < 0 || shift > 1 || tokens < 1 || rows % tokens != 0) return cudaErrorInvalidValue;
  return normalize<true>({from, class_token, table, tokens, shift}, weight, bias, epsilon, to, rows, channels, stream);
}

}  // namespace comneck::cuda
