#include "canonical_attention/canonical_attention.h"

#include <cmath>

#include "canonical_sum.h"

namespace comneck::cuda {
namespace {

constexpr int32_t kThreads = 128;
constexpr int64_t kMostSharedFloats = 50000;

// A block computes one query of one head.
__global__ void __launch_bounds__(kThreads) attend(Side qkv, Side to, int32_t tokens, int32_t depth, float scale) {
  COMNECK_DYNAMIC_SHARED(float, shared);
  COMNECK_SHARED(most, float[kThreads]);
  COMNECK_SHARED(total, float[1]);
  float *query = shared;           // [depth]
  float *scores = shared + depth;  // [tokens]
  const int32_t t = static_cast<int32_t>(threadIdx.x);
  const int32_t heads = static_cast<int32_t>(gridDim.y);
  const int64_t first_row = int64_t{blockIdx.z} * tokens;
  const int64_t row = first_row + blockIdx.x;
  const int64_t head = int64_t{blockIdx.y} * depth;
  const int64_t keys = int64_t{heads} * depth + head;
  const int64_t values = 2 * int64_t{heads} * depth + head;

  for (int32_t c = t; c < depth; c += kThreads) query[c] = load(qkv, row, head + c);
  __syncthreads();
  float largest = -INFINITY;
  for (int32_t j = t; j < tokens; j += kThreads) {
    float score = 0.0f;
    for (int32_t c = 0; c < depth; c++) score = fmaf(query[c], load(qkv, first_row + j, keys + c), score);
    score = score * scale;
    scores[j] = score;
    largest = score > largest ? score : largest;
  }
  most[t] = largest;
  for (int32_t step = kThreads / 2; step > 0; step /= 2) {
    __syncthreads();
    if (t < step) most[t] = most[t + step] > most[t] ? most[t + step] : most[t];
  }
  __syncthreads();
  for (int32_t j = t; j < tokens; j += kThreads) scores[j] = canonical::exp<PortableLanes>(scores[j] - most[0]);
  __syncthreads();
  if (t < 32) {
    float partial = 0.0f;
    for (int32_t j = t % kPartials; j < tokens; j += kPartials) partial = partial + scores[j];
    const float sum = sum_partials(partial);
    if (t == 0) total[0] = sum;
  }
  __syncthreads();
  const float inverse = 1.0f / total[0];
  for (int32_t c = t; c < depth; c += kThreads) {
    float sum = 0.0f;
    for (int32_t j = 0; j < tokens; j++) sum = fmaf(scores[j], load(qkv, first_row + j, values + c), sum);
    store(to, row, head + c, sum * inverse);
  }
}

}  // namespace

cudaError_t attention(const Side &qkv, const Side &to, int32_t images, int32_t tokens, int32_t heads, int32_t depth, cudaStream_t stream) {
  if (images < 0 || tokens < 0 || heads < 1 || depth < 1 || heads > 65535 || images > 65535 || int64_t{tokens} + depth > kMostSharedFloats) {
    return cudaErrorInvalidValue;
  }
  if (images == 0 || tokens == 0) return cudaSuccess;
  const size_t shared = static_cast<size_t>(tokens + depth) * 4;
  if (shared > 40 * 1024) {
    if (const cudaError_t error = allow_shared(attend, shared); error != cudaSuccess) return error;
  }
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(depth)));
  return launch(attend, dim3(static_cast<unsigned>(tokens), static_cast<unsigned>(heads), static_cast<unsigned>(images)), kThreads, shared,
                stream, qkv, to, tokens, depth, scale);
}

}  // namespace comneck::cuda
