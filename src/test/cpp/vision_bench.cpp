// Times LayerNorm and attention of ViT-L/14 (257 tokens, 16 heads of 64) on one thread, beside the peak of the multiply-add units
// measured in the same moments, because the machine's other work slows both. Medians of many short repeats.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <vector>

#include "vision/functions.h"
#include "vision/vision.h"

using namespace comneck;

namespace {

template <class Body>
double median_ms(Body body) {
  std::vector<double> times;
  for (int i = 0; i < 25; i++) {
    auto start = std::chrono::steady_clock::now();
    body();
    times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void report(const char *name, const VisionKernels &kernels, const AttentionKernels &attention, int32_t type) {
  const int64_t tokens = 257, heads = 16, depth = 64, width = heads * depth;
  std::vector<float> qkv(static_cast<size_t>(tokens * 3 * width));
  std::vector<uint16_t> half(qkv.size());
  for (size_t i = 0; i < qkv.size(); i++) {
    qkv[i] = std::sin(static_cast<float>(i % 10007));
    half[i] = static_cast<uint16_t>(__builtin_bit_cast(uint32_t, qkv[i]) >> 16);
  }
  std::vector<float> out(static_cast<size_t>(tokens * width)), weight(static_cast<size_t>(width), 1.0f), bias(static_cast<size_t>(width));
  const void *data = type == kF32 ? static_cast<const void *>(qkv.data()) : static_cast<const void *>(half.data());
  AttentionCall call{{data, type, 3 * width}, {out.data(), kF32, width}, 1, tokens, heads, depth, 0.125f, nullptr};
  std::vector<float> packed(static_cast<size_t>(attention.packed_bytes(call) / 4)), scratch(static_cast<size_t>(attention.thread_bytes(call) / 4));
  call.packed = packed.data();
  double pack = median_ms([&] {
    for (int64_t i = 0; i < heads; i++) {
      attention.pack(call, i);
    }
  });
  double attend = median_ms([&] {
    for (int64_t i = 0; i < attention_items(call); i++) {
      attention.attend(call, i, scratch.data());
    }
  });
  double norm = median_ms([&] {
    kernels.layer_norm({{qkv.data(), kF32, width}, {out.data(), kF32, width}, weight.data(), bias.data(), width, 1e-5f}, 0, tokens);
  });
  double gelu = median_ms([&] {
    for (int64_t i = 0; i < 257; i++) kernels.gate({{qkv.data(), kF32, width}, {qkv.data(), kF32, width}, {qkv.data(), kF32, width}, {out.data(), kF32, width}, width}, i, 1);
  });
  double gmac = 2.0 * tokens * tokens * width / 1e9;
  std::printf("%-10s pack %6.3f ms, attend %6.3f ms (%5.1f GMAC/s), layer_norm %6.3f ms, gate %6.3f ms\n", name, pack, attend, gmac / attend * 1e3, norm, gelu);
}

}  // namespace

int main() {
  for (int round = 0; round < 3; round++) {
    report("portable", vision_portable(), vision_portable().attention, kF32);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      report("AVX2", vision_avx2(), vision_avx2().attention, kF32);
    }
    if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
      report("AVX-512", vision_avx512(), vision_avx512().attention, kF32);
    }
    if (__builtin_cpu_supports("avx512bf16")) {
      report("bf16", vision_avx512bf16(), vision_avx512bf16().attention_bf16, kBf16);
    }
  }
}
