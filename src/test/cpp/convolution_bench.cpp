// Speed of the matrix kernel on the shapes that matter, as JSON lines:
//
//   {"shape": name, "precision": "f32", "isa": "AVX-512 with bf16, 1 thread", "gflops": best of the repeats,
//   "median_gflops": ...,
//    "peak_gflops": what independent FMAs reach on one core, measured between the repeats, "ratio": gflops / (threads *
//    peak)}
//
// One thread is timed by its processor time, so that other programs on the machine count less; two threads by the
// clock. A multiply-add counts as two operations; taps outside the input are not counted. Usage: convolution_bench
// [seconds per shape] [name part] [isa: 0 auto, 1 portable, 2 AVX2, 3 AVX-512]
#include <immintrin.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "backend/context.h"
#include "check.h"
#include "comneck.h"

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Seconds of processor time of this thread.
double busy() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// GFLOP/s of 24 independent chains of FMAs in registers: the most that one core can do. bf16: twice that on the
// machines we know.
__attribute__((target("avx512f"))) double peak512() {
  __m512 acc[24];
  for (auto &value : acc) value = _mm512_set1_ps(1.0f);
  const __m512 a = _mm512_set1_ps(0.999f);
  const double start = busy();
  constexpr int kRounds = 20000;
  for (int i = 0; i < kRounds; ++i) {
#pragma GCC unroll 24
    for (auto &value : acc) value = _mm512_fmadd_ps(value, a, a);
  }
  const double seconds = busy() - start;
  __m512 sum = acc[0];
  for (auto &value : acc) sum = _mm512_add_ps(sum, value);
  float lanes[16];
  _mm512_storeu_ps(lanes, sum);
  volatile float sink = lanes[0];
  (void)sink;
  return 24.0 * kRounds * 32 / seconds * 1e-9;
}

__attribute__((target("avx2,fma"))) double peak256() {
  __m256 acc[12];
  for (auto &value : acc) value = _mm256_set1_ps(1.0f);
  const __m256 a = _mm256_set1_ps(0.999f);
  const double start = busy();
  constexpr int kRounds = 40000;
  for (int i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (auto &value : acc) value = _mm256_fmadd_ps(value, a, a);
  }
  const double seconds = busy() - start;
  __m256 sum = acc[0];
  for (auto &value : acc) sum = _mm256_add_ps(sum, value);
  float lanes[8];
  _mm256_storeu_ps(lanes, sum);
  volatile float sink = lanes[0];
  (void)sink;
  return 12.0 * kRounds * 16 / seconds * 1e-9;
}

double peak(int32_t kernels) { return kernels == COMNECK_ISA_AVX512 ? peak512() : peak256(); }

int32_t isa = COMNECK_ISA_AUTO;

struct Shape {
  const char *name;
  int32_t height, width, inputs, outputs, kernel, stride, kind, grid, precision, function;
  int32_t repeat = 1;  // layers of this shape in a row, with weights of their own
};

// Multiply-adds of taps inside the input.
double work(const Shape &s, int32_t out_h, int32_t out_w) {
  double taps = 0;
  for (int32_t y = 0; y < out_h; ++y) {
    for (int32_t x = 0; x < out_w; ++x) {
      if (s.grid == COMNECK_ANCHORS && (y + x) % 2 != 0) continue;
      if (s.grid == COMNECK_NON_ANCHORS && (y + x) % 2 == 0) continue;
      for (int32_t ky = 0; ky < s.kernel; ++ky) {
        for (int32_t kx = 0; kx < s.kernel; ++kx) {
          const int32_t p = s.kernel == s.stride ? 0 : s.kernel / 2;
          if (s.kind == COMNECK_CHECKERBOARD && (ky + kx) % 2 == 0) continue;
          int32_t iy = y * s.stride + ky - p;
          int32_t ix = x * s.stride + kx - p;
          if (s.kind == COMNECK_TRANSPOSED) {
            const int32_t dy = y + p - ky;
            const int32_t dx = x + p - kx;
            if (dy < 0 || dx < 0 || dy % s.stride != 0 || dx % s.stride != 0) continue;
            iy = dy / s.stride;
            ix = dx / s.stride;
          }
          if (iy >= 0 && ix >= 0 && iy < s.height && ix < s.width) taps += 1;
        }
      }
    }
  }
  return taps * s.inputs * s.outputs;
}

void measure(const Shape &s, int32_t threads, double seconds) {
  comneck_context *context = nullptr;
  CHECK_EQ(comneck_context_create(threads, isa, &context), COMNECK_OK);
  const int32_t padding = s.kernel == s.stride ? 0 : s.kernel / 2;
  const comneck_convolution geometry{s.inputs, s.outputs, s.kernel, s.kernel, s.stride, padding, s.kind, s.precision};
  std::vector<float> weight(static_cast<size_t>(s.inputs) * s.outputs * s.kernel * s.kernel);
  for (size_t i = 0; i < weight.size(); ++i) weight[i] = static_cast<float>(i % 251) * 0.01f - 1.25f;
  std::vector<comneck_layer *> layers(static_cast<size_t>(s.repeat));
  for (auto &layer : layers) {
    CHECK_EQ(comneck_layer_create(context, &geometry, weight.data(), static_cast<int64_t>(weight.size()) * 4,
                                  COMNECK_F32, nullptr, 0, COMNECK_F32, &layer),
             COMNECK_OK);
  }
  const bool bf16 = s.precision == COMNECK_PRECISION_BF16;
  const int32_t out_h =
      s.kind == COMNECK_TRANSPOSED ? s.height * s.stride : (s.height + 2 * padding - s.kernel) / s.stride + 1;
  const int32_t out_w =
      s.kind == COMNECK_TRANSPOSED ? s.width * s.stride : (s.width + 2 * padding - s.kernel) / s.stride + 1;
  const int64_t in_bytes = (int64_t{s.height} * s.width * s.inputs * (bf16 ? 2 : 4) + 63) / 64 * 64;
  const int64_t out_bytes = int64_t{out_h} * out_w * s.outputs * 4;
  const int32_t in_grid = s.kernel == 1 ? s.grid : COMNECK_FULL;
  const comneck_view in{0, in_bytes, bf16 ? COMNECK_BF16 : COMNECK_F32, in_grid, 1, s.height, s.width, s.inputs,
                        0, s.inputs};
  const comneck_view out{in_bytes, out_bytes, COMNECK_F32, s.grid, 1, out_h, out_w, s.outputs, 0, s.outputs};
  comneck_plan *plan = nullptr;
  CHECK_EQ(comneck_plan_create(context, &plan), COMNECK_OK);
  for (auto *layer : layers)
    CHECK_EQ(comneck_plan_convolution(plan, layer, &in, 1, nullptr, s.function, &out), COMNECK_OK);
  void *memory = nullptr;
  CHECK_EQ(comneck_plan_seal(plan, in_bytes + out_bytes, &memory), COMNECK_OK);
  for (int64_t i = 0; i < in_bytes / 2; ++i) {
    const auto half = static_cast<uint16_t>(0x3f80 + i % 100);
    std::memcpy(static_cast<char *>(memory) + i * 2, &half, 2);
  }
  CHECK_EQ(comneck_plan_execute(plan), COMNECK_OK);

  const double flop = 2 * work(s, out_h, out_w) * s.repeat;
  std::vector<double> rates;
  double best_peak = 0;
  const auto begin = Clock::now();
  while (seconds_since(begin) < seconds || rates.size() < 5) {
    best_peak = std::max(best_peak, peak(context->isa));
    const auto start = Clock::now();
    const double before = busy();
    comneck_plan_execute(plan);
    rates.push_back(flop / (threads == 1 ? busy() - before : seconds_since(start)) * 1e-9);
  }
  std::sort(rates.begin(), rates.end());
  char text[64];
  comneck_context_describe(context, text, sizeof text);
  const double top = best_peak * (bf16 && context->bf16_instructions ? 2 : 1);
  std::printf(
      "{\"shape\": \"%s\", \"precision\": \"%s\", \"isa\": \"%s\", \"mflop\": %.0f, \"gflops\": %.1f, "
      "\"median_gflops\": %.1f, "
      "\"peak_gflops\": %.1f, \"ratio\": %.3f}\n",
      s.name, bf16 ? "bf16" : "f32", text, flop * 1e-6, rates.back(), rates[rates.size() / 2], top,
      rates.back() / (threads * top));
  std::fflush(stdout);
  comneck_plan_destroy(plan);
  for (auto *layer : layers) comneck_layer_destroy(layer);
  comneck_context_destroy(context);
}

}  // namespace

int main(int count, char **arguments) {
  const double seconds = count > 1 ? std::atof(arguments[1]) : 0.5;
  const char *part = count > 2 ? arguments[2] : "";
  isa = count > 3 ? std::atoi(arguments[3]) : COMNECK_ISA_AUTO;
  constexpr int32_t D = COMNECK_DIRECT, C = COMNECK_CHECKERBOARD, T = COMNECK_TRANSPOSED, A = COMNECK_ANCHORS,
                    N = COMNECK_NON_ANCHORS, F = COMNECK_FULL, R = COMNECK_RELU, Q = COMNECK_QUICK_GELU,
                    B = COMNECK_PRECISION_BF16;
  const Shape shapes[] = {
      {"aggregation 1312->640, 128 rows", 16, 16, 1312, 640, 1, 1, D, A, 0, R},
      {"aggregation 640->512, 128 rows", 16, 16, 640, 512, 1, 1, D, A, 0, R},
      {"aggregation 512->384, 128 rows", 16, 16, 512, 384, 1, 1, D, A, 0, 0},
      {"aggregation 512->32, 128 rows", 16, 16, 512, 32, 1, 1, D, A, 0, 0},
      {"channel context 5x5 32->224, 16x16", 16, 16, 32, 224, 5, 1, D, F, 0, R},
      {"channel context 5x5 224->128, 16x16", 16, 16, 224, 128, 5, 1, D, F, 0, R},
      {"channel context 5x5 128->384, 16x16", 16, 16, 128, 384, 5, 1, D, F, 0, 0},
      {"checkerboard 5x5 192->384, 16x16", 16, 16, 192, 384, 5, 1, C, N, 0, 0},
      {"h_s.0 transposed 192->192, 4x4", 4, 4, 192, 192, 5, 2, T, F, 0, R},
      {"h_s.2 transposed 192->288, 8x8", 8, 8, 192, 288, 5, 2, T, F, 0, R},
      {"h_s.4 3x3 288->640, 16x16", 16, 16, 288, 640, 3, 1, D, F, 0, 0},
      {"g_a.0 5x5/2 3->192, 256x256", 256, 256, 3, 192, 5, 2, D, F, 0, 0},
      {"bottleneck 1x1 192->96, 128x128", 128, 128, 192, 96, 1, 1, D, F, 0, R},
      {"bottleneck 1x1 192->96, 32x32", 32, 32, 192, 96, 1, 1, D, F, 0, R},
      {"bottleneck 1x1 96->192, 32x32", 32, 32, 96, 192, 1, 1, D, F, 0, R},
      {"bottleneck 3x3 96->96, 128x128", 128, 128, 96, 96, 3, 1, D, F, 0, R},
      {"bottleneck 1x1 96->192, 128x128", 128, 128, 96, 192, 1, 1, D, F, 0, R},
      {"g_a.4 5x5/2 192->192, 128x128", 128, 128, 192, 192, 5, 2, D, F, 0, 0},
      {"g_s.10 transposed 192->192, 64x64", 64, 64, 192, 192, 5, 2, T, F, 0, 0},
      {"g_s.14 transposed 192->3, 128x128", 128, 128, 192, 3, 5, 2, T, F, 0, 0},
      {"patches 14x14 3->1024, 224x224", 224, 224, 3, 1024, 14, 14, D, F, 0, 0},
      {"qkv 1024->3072, 257 tokens", 1, 257, 1024, 3072, 1, 1, D, F, 0, 0, 4},
      {"mlp 1024->4096, 257 tokens", 1, 257, 1024, 4096, 1, 1, D, F, 0, Q, 4},
      {"mlp 4096->1024, 257 tokens", 1, 257, 4096, 1024, 1, 1, D, F, 0, 0, 4},
      {"bf16 qkv 1024->3072, 257 tokens", 1, 257, 1024, 3072, 1, 1, D, F, B, 0, 8},
      {"bf16 out 1024->1024, 257 tokens", 1, 257, 1024, 1024, 1, 1, D, F, B, 0, 8},
      {"bf16 mlp 1024->4096, 257 tokens", 1, 257, 1024, 4096, 1, 1, D, F, B, Q, 8},
      {"bf16 mlp 4096->1024, 257 tokens", 1, 257, 4096, 1024, 1, 1, D, F, B, 0, 8},
      {"bf16 bottleneck 3x3 96->96, 128x128", 128, 128, 96, 96, 3, 1, D, F, B, R},
      {"bf16 g_s.10 transposed 192->192, 64x64", 64, 64, 192, 192, 5, 2, T, F, B, 0},
  };
  for (const int32_t threads : {1, 2}) {
    for (const Shape &shape : shapes) {
      if (std::strstr(shape.name, part) != nullptr) measure(shape, threads, seconds);
    }
  }
  return 0;
}
