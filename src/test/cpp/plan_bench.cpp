// Whole stages as plans, with the time that each kind of step takes, as JSON lines:
//
//   {"plan": "22 blocks of ViT-L/14, 257 tokens, bf16", "threads": 2, "ms": fastest execution, "median_ms": ...,
//   "processor_ms": processor
//    time of all threads in the execution that took the least, "kinds_ms": {kind of step: its part of the fastest
//    execution}}
//
// Weights are arbitrary; blocks take turns with six sets of them, more than caches hold. Usage: plan_bench [repeats]
// [name part] [isa: 0 auto, 1 portable, 2 AVX2, 3 AVX-512]
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "backend/context.h"
#include "backend/plan.h"
#include "check.h"
#include "comneck.h"

namespace {

double wall() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double processor() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

int32_t isa = COMNECK_ISA_AUTO;

class Recorder {
 public:
  explicit Recorder(int32_t threads) : threads_(threads) {
    CHECK_EQ(comneck_context_create(threads, isa, &context_), COMNECK_OK);
    CHECK_EQ(comneck_plan_create(context_, &plan_), COMNECK_OK);
  }
  ~Recorder() {
    comneck_plan_destroy(plan_);
    for (comneck_layer *layer : layers_) comneck_layer_destroy(layer);
    comneck_context_destroy(context_);
  }
  Recorder(const Recorder &) = delete;
  Recorder &operator=(const Recorder &) = delete;

  comneck_plan *plan() { return plan_; }

  comneck_view buffer(int32_t type, int32_t grid, int32_t height, int32_t width, int32_t channels) {
    const int64_t bytes = comneck::positions_of(grid, height, width) * channels * comneck::element_bytes_of(type);
    const comneck_view view{end_, bytes, type, grid, 1, height, width, channels, 0, channels};
    end_ += (bytes + 63) / 64 * 64;
    return view;
  }

  comneck_layer *layer(int32_t inputs, int32_t outputs, int32_t kernel, int32_t stride, int32_t kind,
                       int32_t precision) {
    const comneck_convolution g{inputs, outputs, kernel, kernel, stride, kernel / 2, kind, precision};
    const size_t count = static_cast<size_t>(inputs) * outputs * kernel * kernel;
    if (weights_.size() < count) {
      const size_t old = weights_.size();
      weights_.resize(count);
      for (size_t i = old; i < count; ++i) weights_[i] = static_cast<float>(i % 251) * 1e-4f - 0.0125f;
    }
    comneck_layer *layer = nullptr;
    CHECK_EQ(comneck_layer_create(context_, &g, weights_.data(), static_cast<int64_t>(count) * 4, COMNECK_F32, nullptr,
                                  0, 0, &layer),
             COMNECK_OK);
    layers_.push_back(layer);
    return layer;
  }

  // Steps until the next call are of this kind.
  void kind(const char *name) {
    int32_t stage = 0;
    CHECK_EQ(comneck_plan_stage(plan_, &stage), COMNECK_OK);
    kinds_.resize(static_cast<size_t>(stage) + 1);
    kinds_.back() = name;
  }

  void convolution(const comneck_layer *layer, std::vector<comneck_view> sources, const comneck_view *residual,
                   int32_t function, const comneck_view &destination) {
    const int32_t status = comneck_plan_convolution(plan_, layer, sources.data(), static_cast<int32_t>(sources.size()),
                                                    residual, function, &destination);
    if (status != COMNECK_OK) std::fprintf(stderr, "%s\n", comneck_last_error());
    CHECK_EQ(status, COMNECK_OK);
  }

  void measure(const char *name, int repeats) {
    void *memory = nullptr;
    CHECK_EQ(comneck_plan_seal(plan_, end_, &memory), COMNECK_OK);
    std::memset(memory, 0, static_cast<size_t>(end_));
    CHECK_EQ(comneck_plan_execute(plan_), COMNECK_OK);
    std::vector<double> times;
    double best_processor = 1e9;
    std::map<std::string, double> parts;
    std::vector<int64_t> nanos(kinds_.size());
    for (int i = 0; i < repeats; ++i) {
      const double start = wall();
      const double start_processor = processor();
      comneck_plan_execute(plan_);
      times.push_back(wall() - start);
      best_processor = std::min(best_processor, processor() - start_processor);
      if (times.back() <= *std::min_element(times.begin(), times.end())) {
        comneck_plan_nanos(plan_, nanos.data(), static_cast<int64_t>(nanos.size()));
        parts.clear();
        for (size_t k = 0; k < kinds_.size(); ++k) parts[kinds_[k]] += static_cast<double>(nanos[k]) * 1e-6;
      }
    }
    std::sort(times.begin(), times.end());
    std::printf(
        "{\"plan\": \"%s\", \"threads\": %d, \"ms\": %.1f, \"median_ms\": %.1f, \"processor_ms\": %.1f, \"kinds_ms\": "
        "{",
        name, threads_, times.front() * 1e3, times[times.size() / 2] * 1e3, best_processor * 1e3);
    const char *comma = "";
    for (const auto &[kind, part] : parts) {
      if (kind.empty()) continue;
      std::printf("%s\"%s\": %.2f", comma, kind.c_str(), part);
      comma = ", ";
    }
    std::printf("}}\n");
    std::fflush(stdout);
  }

 private:
  int32_t threads_;
  comneck_context *context_ = nullptr;
  comneck_plan *plan_ = nullptr;
  int64_t end_ = 0;
  std::vector<float> weights_;
  std::vector<comneck_layer *> layers_;
  std::vector<std::string> kinds_;
};

void encoder(const char *name, int32_t threads, int repeats, int32_t precision, int32_t tokens) {
  constexpr int32_t kWidth = 1024, kBlocks = 22, kSets = 6;
  Recorder r(threads);
  const int32_t half = precision == COMNECK_PRECISION_BF16 ? COMNECK_BF16 : COMNECK_F32;
  const comneck_view x = r.buffer(COMNECK_F32, 0, 1, tokens, kWidth);
  const comneck_view normed = r.buffer(half, 0, 1, tokens, kWidth);
  const comneck_view qkv = r.buffer(half, 0, 1, tokens, 3 * kWidth);
  const comneck_view mixed = r.buffer(half, 0, 1, tokens, kWidth);
  const comneck_view wide = r.buffer(half, 0, 1, tokens, 4 * kWidth);
  const std::vector<float> ones(kWidth, 1.0f);
  comneck_layer *layers[kSets][4];
  for (auto &set : layers) {
    set[0] = r.layer(kWidth, 3 * kWidth, 1, 1, COMNECK_DIRECT, precision);
    set[1] = r.layer(kWidth, kWidth, 1, 1, COMNECK_DIRECT, precision);
    set[2] = r.layer(kWidth, 4 * kWidth, 1, 1, COMNECK_DIRECT, precision);
    set[3] = r.layer(4 * kWidth, kWidth, 1, 1, COMNECK_DIRECT, precision);
  }
  for (int32_t i = 0; i < kBlocks; ++i) {
    comneck_layer **set = layers[i % kSets];
    r.kind("norm");
    CHECK_EQ(comneck_plan_layer_norm(r.plan(), &x, ones.data(), kWidth * 4, ones.data(), kWidth * 4, 1e-5f, &normed),
             COMNECK_OK);
    r.kind("qkv");
    r.convolution(set[0], {normed}, nullptr, COMNECK_NONE, qkv);
    r.kind("attention");
    CHECK_EQ(comneck_plan_attention(r.plan(), &qkv, 16, &mixed), COMNECK_OK);
    r.kind("out");
    r.convolution(set[1], {mixed}, &x, COMNECK_NONE, x);
    r.kind("norm");
    CHECK_EQ(comneck_plan_layer_norm(r.plan(), &x, ones.data(), kWidth * 4, ones.data(), kWidth * 4, 1e-5f, &normed),
             COMNECK_OK);
    r.kind("mlp up");
    r.convolution(set[2], {normed}, nullptr, COMNECK_QUICK_GELU, wide);
    r.kind("mlp down");
    r.convolution(set[3], {wide}, &x, COMNECK_NONE, x);
  }
  r.measure(name, repeats);
}

comneck_view slice(comneck_view view, int32_t from, int32_t count) {
  view.channel_offset += from;
  view.channels = count;
  return view;
}

// ELIC's entropy parameters at 256x256, as a decoder computes them, without rANS.
void entropy(const char *name, int32_t threads, int repeats) {
  constexpr int32_t kF = COMNECK_PRECISION_F32, kSlices[] = {16, 16, 32, 64, 192};
  Recorder r(threads);
  const comneck_view z = r.buffer(COMNECK_F32, 0, 4, 4, 192);
  const comneck_view h1 = r.buffer(COMNECK_F32, 0, 8, 8, 192);
  const comneck_view h2 = r.buffer(COMNECK_F32, 0, 16, 16, 288);
  const comneck_view hyper = r.buffer(COMNECK_F32, 0, 16, 16, 640);
  const comneck_view y = r.buffer(COMNECK_F32, 0, 16, 16, 320);
  const comneck_view c1 = r.buffer(COMNECK_F32, 0, 16, 16, 224);
  const comneck_view c2 = r.buffer(COMNECK_F32, 0, 16, 16, 128);
  r.kind("h_s");
  r.convolution(r.layer(192, 192, 5, 2, COMNECK_TRANSPOSED, kF), {z}, nullptr, COMNECK_RELU, h1);
  r.convolution(r.layer(192, 288, 5, 2, COMNECK_TRANSPOSED, kF), {h1}, nullptr, COMNECK_RELU, h2);
  r.convolution(r.layer(288, 640, 3, 1, COMNECK_DIRECT, kF), {h2}, nullptr, COMNECK_NONE, hyper);
  int32_t first = 0;
  for (int32_t i = 0; i < 5; first += kSlices[i], ++i) {
    const int32_t c = kSlices[i];
    const comneck_view context = r.buffer(COMNECK_F32, 0, 16, 16, 2 * c);
    std::vector<comneck_view> support;
    if (i > 0) {
      std::vector<comneck_view> seen = {slice(y, 0, 16)};
      if (i > 1) seen.push_back(slice(y, first - kSlices[i - 1], kSlices[i - 1]));
      const int32_t inputs = i > 1 ? 16 + kSlices[i - 1] : 16;
      r.kind("channel context");
      r.convolution(r.layer(inputs, 224, 5, 1, COMNECK_DIRECT, kF), seen, nullptr, COMNECK_RELU, c1);
      r.convolution(r.layer(224, 128, 5, 1, COMNECK_DIRECT, kF), {c1}, nullptr, COMNECK_RELU, c2);
      r.convolution(r.layer(128, 2 * c, 5, 1, COMNECK_DIRECT, kF), {c2}, nullptr, COMNECK_NONE, context);
      support.push_back(context);
    }
    support.push_back(hyper);
    comneck_layer *board = r.layer(c, 2 * c, 5, 1, COMNECK_CHECKERBOARD, kF);
    comneck_layer *a0 = r.layer(2 * c + (i > 0 ? 2 * c : 0) + 640, 640, 1, 1, COMNECK_DIRECT, kF);
    comneck_layer *a1 = r.layer(640, 512, 1, 1, COMNECK_DIRECT, kF);
    comneck_layer *a2 = r.layer(512, 2 * c, 1, 1, COMNECK_DIRECT, kF);
    for (const int32_t grid : {COMNECK_ANCHORS, COMNECK_NON_ANCHORS}) {
      const comneck_view near = r.buffer(COMNECK_F32, grid, 16, 16, 2 * c);
      std::vector<comneck_view> sources = support;
      if (grid == COMNECK_ANCHORS) {
        comneck_view absent{};
        absent.channels = 2 * c;
        sources.insert(sources.begin(), absent);
      } else {
        r.kind("checkerboard");
        r.convolution(board, {slice(y, first, c)}, nullptr, COMNECK_NONE, near);
        sources.insert(sources.begin(), near);
      }
      const comneck_view p0 = r.buffer(COMNECK_F32, grid, 16, 16, 640);
      const comneck_view p1 = r.buffer(COMNECK_F32, grid, 16, 16, 512);
      const comneck_view p2 = r.buffer(COMNECK_F32, grid, 16, 16, 2 * c);
      r.kind("aggregation");
      r.convolution(a0, sources, nullptr, COMNECK_RELU, p0);
      r.convolution(a1, {p0}, nullptr, COMNECK_RELU, p1);
      r.convolution(a2, {p1}, nullptr, COMNECK_NONE, p2);
    }
  }
  r.measure(name, repeats);
}

// g_s without its attention blocks' gates: bottlenecks and transposed convolutions.
void synthesis(const char *name, int32_t threads, int repeats, int32_t precision) {
  Recorder r(threads);
  int32_t size = 16;
  comneck_view x = r.buffer(COMNECK_F32, 0, size, size, 320);
  const auto bottleneck = [&](const char *kind, int32_t channels) {
    const comneck_view a = r.buffer(COMNECK_F32, 0, size, size, channels / 2);
    const comneck_view b = r.buffer(COMNECK_F32, 0, size, size, channels / 2);
    const comneck_view to = r.buffer(COMNECK_F32, 0, size, size, channels);
    r.kind((std::string(kind) + " 1x1").c_str());
    r.convolution(r.layer(channels, channels / 2, 1, 1, COMNECK_DIRECT, precision), {x}, nullptr, COMNECK_RELU, a);
    r.kind((std::string(kind) + " 3x3").c_str());
    r.convolution(r.layer(channels / 2, channels / 2, 3, 1, COMNECK_DIRECT, precision), {a}, nullptr, COMNECK_RELU, b);
    r.kind((std::string(kind) + " 1x1").c_str());
    r.convolution(r.layer(channels / 2, channels, 1, 1, COMNECK_DIRECT, precision), {b}, &x, COMNECK_NONE, to);
    x = to;
  };
  const auto up = [&](int32_t channels) {
    const comneck_view to = r.buffer(COMNECK_F32, 0, 2 * size, 2 * size, channels);
    const std::string kind = "up to " + std::to_string(2 * size);
    r.kind(kind.c_str());
    r.convolution(r.layer(x.channels, channels, 5, 2, COMNECK_TRANSPOSED, precision), {x}, nullptr, COMNECK_NONE, to);
    x = to;
    size *= 2;
  };
  for (int32_t i = 0; i < 6; ++i) bottleneck("attention 16", 320);
  up(192);
  for (int32_t i = 0; i < 3; ++i) bottleneck("bottleneck 32", 192);
  up(192);
  for (int32_t i = 0; i < 6; ++i) bottleneck("attention 64", 192);
  for (int32_t i = 0; i < 3; ++i) bottleneck("bottleneck 64", 192);
  up(192);
  for (int32_t i = 0; i < 3; ++i) bottleneck("bottleneck 128", 192);
  up(3);
  r.measure(name, repeats);
}

}  // namespace

int main(int count, char **arguments) {
  const int repeats = count > 1 ? std::atoi(arguments[1]) : 7;
  const char *part = count > 2 ? arguments[2] : "";
  isa = count > 3 ? std::atoi(arguments[3]) : COMNECK_ISA_AUTO;
  const auto wanted = [&](const char *name) { return std::strstr(name, part) != nullptr; };
  for (const int32_t threads : {1, 2}) {
    if (const char *name = "entropy parameters of ELIC, 256x256"; wanted(name)) entropy(name, threads, repeats * 3);
    if (const char *name = "synthesis of ELIC, 256x256, f32"; wanted(name))
      synthesis(name, threads, repeats, COMNECK_PRECISION_F32);
    if (const char *name = "synthesis of ELIC, 256x256, bf16"; wanted(name))
      synthesis(name, threads, repeats, COMNECK_PRECISION_BF16);
    if (const char *name = "22 blocks of ViT-L/14, 257 tokens, f32"; wanted(name)) {
      encoder(name, threads, repeats, COMNECK_PRECISION_F32, 257);
    }
    if (const char *name = "22 blocks of ViT-L/14, 257 tokens, bf16"; wanted(name)) {
      encoder(name, threads, repeats, COMNECK_PRECISION_BF16, 257);
    }
  }
  return 0;
}
