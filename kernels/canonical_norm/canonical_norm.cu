// Half a warp has a row: the canonical order of a sum is sixteen chains, a lane's channels lane, lane + 16, lane + 32, ... are one of them, and
// what a lane adds up it also normalises and stores. So the row stays in the lanes' registers, and lanes exchange partial sums only. A block is
// one warp: 257 rows are 129 blocks, about as many as a large device has multiprocessors. Rows that are wider than the registers, or not F32 on
// both sides, which no network of ours has, are read three times.
#include "canonical_norm/canonical_norm.h"

#include "canonical_sum.h"

namespace comneck::cuda {
namespace {

constexpr int32_t kThreads = 32;
constexpr int64_t kRows = kThreads / kPartials;
constexpr int32_t kMostValues = 112;  // 128 spill on sm_100 and sm_120

// Where the elements of a row come from.
struct Source {
  Side from;
  const float *class_token;
  const float *table;
  int64_t tokens;
  int32_t shift;
};

// A row of tokens: of the source, or the class token where `from` is negative.
struct Token {
  int64_t from;
  int64_t position;
};

__device__ inline Token token_of(const Source &source, int64_t row) {
  const int64_t n = row / source.tokens;
  const int64_t position = row % source.tokens;
  return {position < source.shift ? -1 : n * (source.tokens - source.shift) + position - source.shift, position};
}

// F32 to F32. kValues: registers a lane has for its channels.
template <bool kEmbeds, int kValues>
__global__ void __launch_bounds__(kThreads) normalize_held(Source source, const float *__restrict__ weight, const float *__restrict__ bias,
                                                           float epsilon, Side to, int64_t rows, int32_t channels) {
  const int32_t first = static_cast<int32_t>(threadIdx.x % kPartials);
  const int64_t row = int64_t{blockIdx.x} * kRows + threadIdx.x / kPartials;
  const int32_t here = row < rows ? channels : 0;  // a half without a row goes along: the other one's shuffles need its lanes
  const Token token = kEmbeds ? token_of(source, row) : Token{row, 0};
  const float *from = token.from < 0 ? source.class_token : static_cast<const float *>(source.from.data) + token.from * source.from.stride;
  const float *table = source.table + token.position * channels;
  float x[kValues];
  COMNECK_UNROLL
  for (int i = 0; i < kValues; i++) {
    const int32_t c = first + i * kPartials;
    x[i] = c >= here ? 0.0f : kEmbeds ? from[c] + table[c] : from[c];
  }
  float partial = 0.0f;
  COMNECK_UNROLL
  for (int i = 0; i < kValues; i++) partial = partial + x[i];  // zeros beyond the last channel change nothing
  const float mean = sum_partials(partial) / static_cast<float>(channels);
  partial = 0.0f;
  COMNECK_UNROLL
  for (int i = 0; i < kValues; i++) {
    x[i] = x[i] - mean;
    if (first + i * kPartials < here) partial = fmaf(x[i], x[i], partial);
  }
  const float variance = sum_partials(partial) / static_cast<float>(channels);
  const float inverse = 1.0f / sqrtf(variance + epsilon);
  float *out = static_cast<float *>(const_cast<void *>(to.data)) + row * to.stride;
  COMNECK_UNROLL
  for (int i = 0; i < kValues; i++) {
    const int32_t c = first + i * kPartials;
    if (c < here) out[c] = fmaf(x[i] * inverse, weight[c], bias[c]);
  }
}

// Any width and types, read three times.
template <bool kEmbeds>
__global__ void __launch_bounds__(kThreads) normalize_again(Source source, const float *weight, const float *bias, float epsilon, Side to,
                                                            int64_t rows, int32_t channels) {
  const int32_t first = static_cast<int32_t>(threadIdx.x % kPartials);
  const int64_t row = int64_t{blockIdx.x} * kRows + threadIdx.x / kPartials;
  const int32_t here = row < rows ? channels : 0;
  const Token token = kEmbeds ? token_of(source, row) : Token{row, 0};
  const auto value = [&](int32_t c) {
    const float x = token.from < 0 ? source.class_token[c] : load(source.from, token.from, c);
    return kEmbeds ? x + source.table[token.position * channels + c] : x;
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
  const bool held = source.from.type == COMNECK_F32 && to.type == COMNECK_F32 && channels <= kMostValues * kPartials;
  const auto kernel = !held                        ? normalize_again<kEmbeds>
                      : channels <= 16 * kPartials ? normalize_held<kEmbeds, 16>
                      : channels <= 48 * kPartials ? normalize_held<kEmbeds, 48>
                      : channels <= 64 * kPartials ? normalize_held<kEmbeds, 64>
                                                   : normalize_held<kEmbeds, kMostValues>;
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
