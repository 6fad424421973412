// Speed of attention, LayerNorm and the gate on one block of ViT-L/14 (257 tokens, 16 heads of 64), one thread.
// Milliseconds of the thread's own processor time, so that other work on the machine counts less; medians of many short
// repeats.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <vector>

#include "vision/vision.h"

using namespace comneck;

namespace {

double now_ms() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return 1e3 * static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_nsec);
}

template <class Body>
double median_ms(int repeats, Body body) {
  std::vector<double> times;
  for (int i = 0; i < repeats; i++) {
    double start = now_ms();
    body();
    times.push_back(now_ms() - start);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void report(int repeats, const char *name, const VisionKernels &kernels, const AttentionKernels &attention,
            int32_t type) {
  const int64_t tokens = 257, heads = 16, depth = 64, width = heads * depth;
  std::vector<float> qkv(static_cast<size_t>(tokens * 3 * width));
  std::vector<uint16_t> half(qkv.size());
  for (size_t i = 0; i < qkv.size(); i++) {
    qkv[i] = std::sin(static_cast<float>(i % 10007));
    half[i] = static_cast<uint16_t>(__builtin_bit_cast(uint32_t, qkv[i]) >> 16);
  }
  std::vector<float> out(static_cast<size_t>(tokens * width)), weight(static_cast<size_t>(width), 1.0f),
      bias(static_cast<size_t>(width));
  const void *data = type == kF32 ? static_cast<const void *>(qkv.data()) : static_cast<const void *>(half.data());
  AttentionCall call{{data, type, 3 * width}, {out.data(), kF32, width}, 1, tokens, heads, depth, 0.125f, nullptr};
  std::vector<float> packed(static_cast<size_t>(attention.packed_bytes(call) / 4)),
      scratch(static_cast<size_t>(attention.thread_bytes(call) / 4));
  call.packed = packed.data();
  double pack = median_ms(repeats, [&] {
    for (int64_t i = 0; i < heads; i++) {
      attention.pack(call, i);
    }
  });
  double attend = median_ms(repeats, [&] {
    for (int64_t i = 0; i < attention_items(call); i++) {
      attention.attend(call, i, scratch.data());
    }
  });
  double norm = median_ms(repeats, [&] {
    kernels.layer_norm({{qkv.data(), kF32, width}, {out.data(), kF32, width}, weight.data(), bias.data(), width, 1e-5f},
                       0, tokens);
  });
  double gate = median_ms(repeats, [&] {
    Rows rows{qkv.data(), kF32, width};
    kernels.gate({rows, rows, rows, {out.data(), kF32, width}, width}, 0, tokens);
  });
  double gmac = 2.0 * tokens * tokens * width / 1e9;
  std::printf("%-10s pack %6.3f ms, attend %6.3f ms (%5.1f GMAC/s), layer_norm %6.3f ms, gate %6.3f ms\n", name, pack,
              attend, gmac / attend * 1e3, norm, gate);
}

}  // namespace

int main() {
  for (int round = 0; round < 3; round++) {
    report(1, "portable", vision_portable(), vision_portable().attention, kF32);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      report(25, "AVX2", vision_avx2(), vision_avx2().attention, kF32);
    }
    if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw")) {
      report(25, "AVX-512", vision_avx512(), vision_avx512().attention, kF32);
    }
    if (__builtin_cpu_supports("avx512bf16")) {
      report(25, "bf16", vision_avx512bf16(), vision_avx512bf16().attention_bf16, kBf16);
    }
  }
}
