// Convolutions of every kind, on every instruction set and 1 to 3 threads, against a chain of fmaf written down
// naively: bit by bit.
#include <math.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "backend/bits.h"
#include "backend/context.h"
#include "check.h"
#include "comneck.h"

namespace {

struct Case {
  int32_t images, height, width, outputs, kernel_height, kernel_width, stride, padding, kind, grid;
  std::vector<int32_t> sources;  // channels; negative: absent
  bool half_source = false;      // the first source lies on the destination's grid
  bool residual = false;
  int32_t function = COMNECK_NONE;
};

std::mt19937 generator(42);

uint32_t random_bits() { return static_cast<uint32_t>(generator()); }

// Both zeros, subnormals, huge values and ordinary ones; now and then an infinity.
float hard(bool infinities) {
  const uint32_t bits = random_bits();
  switch (bits % 16) {
    case 0:
      return 0.0f;
    case 1:
      return -0.0f;
    case 2:
      return std::bit_cast<float>(random_bits() & 0x807FFFFFu);
    case 3:
      return std::bit_cast<float>((random_bits() & 0x807FFFFFu) | 0x4A000000u);
    case 4:
      return infinities && bits % 7 == 0 ? std::bit_cast<float>(0x7F800000u | (random_bits() & 0x80000000u)) : 1.0f;
    default:
      return static_cast<float>(static_cast<int32_t>(random_bits())) * 1e-9f;
  }
}

bool holds(int32_t grid, int32_t y, int32_t x) {
  return grid == COMNECK_FULL || (grid == COMNECK_ANCHORS) == ((y + x) % 2 == 0);
}

// Position of (y, x) on a grid, by counting.
int64_t position(int32_t grid, int32_t width, int32_t y, int32_t x) {
  int64_t p = 0;
  for (int32_t i = 0; i <= y; ++i) {
    for (int32_t j = 0; j < (i == y ? x : width); ++j) p += holds(grid, i, j) ? 1 : 0;
  }
  return p;
}

int64_t positions(int32_t grid, int32_t height, int32_t width) {
  return position(grid, width, height - 1, width - 1) + (holds(grid, height - 1, width - 1) ? 1 : 0);
}

// One buffer: a few channels more than the view on both sides, which nobody may touch.
struct Buffer {
  comneck_view view{};
  std::vector<float> values;

  Buffer(int64_t &offset, int32_t grid, int32_t images, int32_t height, int32_t width, int32_t channels,
         bool infinities) {
    const auto before = static_cast<int32_t>(random_bits() % 3);
    const int32_t stride = before + channels + static_cast<int32_t>(random_bits() % 3);
    values.resize(static_cast<size_t>(positions(grid, height, width) * images * stride));
    for (float &value : values) value = hard(infinities);
    view = {offset, static_cast<int64_t>(values.size()) * 4, COMNECK_F32, grid, images, height, width, channels, before,
            stride};
    offset += (view.bytes + 63) / 64 * 64;
  }
  int64_t index(int64_t image, int64_t p, int32_t c) const {
    return (image * positions(view.grid, view.height, view.width) + p) * view.channel_stride + view.channel_offset + c;
  }
  float &element(int64_t image, int64_t p, int32_t c) { return values[static_cast<size_t>(index(image, p, c))]; }
};

void check_case(const Case &c, bool infinities) {
  const int32_t out_h =
      c.kind == COMNECK_TRANSPOSED ? c.height * c.stride : (c.height + 2 * c.padding - c.kernel_height) / c.stride + 1;
  const int32_t out_w =
      c.kind == COMNECK_TRANSPOSED ? c.width * c.stride : (c.width + 2 * c.padding - c.kernel_width) / c.stride + 1;
  if (positions(c.grid, out_h, out_w) == 0) return;
  int32_t inputs = 0;
  for (const int32_t channels : c.sources) inputs += std::abs(channels);
  int64_t offset = 0;
  std::vector<Buffer> sources;
  std::vector<comneck_view> views;
  for (size_t i = 0; i < c.sources.size(); ++i) {
    const int32_t grid = c.half_source && i == 0 ? c.grid : COMNECK_FULL;
    sources.emplace_back(offset, grid, c.images, c.height, c.width, std::abs(c.sources[i]), infinities);
    if (c.sources[i] < 0) {
      comneck_view absent{};
      absent.channels = -c.sources[i];
      views.push_back(absent);
    } else {
      views.push_back(sources.back().view);
    }
  }
  Buffer residual(offset, c.grid, c.images, out_h, out_w, c.outputs, infinities);
  Buffer destination(offset, c.grid, c.images, out_h, out_w, c.outputs, false);
  const int32_t taps = c.kernel_height * c.kernel_width;
  std::vector<float> weight(static_cast<size_t>(inputs) * c.outputs * taps);
  for (float &value : weight) value = hard(infinities);
  std::vector<float> bias(static_cast<size_t>(c.outputs));
  for (float &value : bias) value = hard(false);
  bias[0] = -0.0f;

  std::vector<float> expected = destination.values;
  for (int32_t n = 0; n < c.images; ++n) {
    for (int32_t y = 0; y < out_h; ++y) {
      for (int32_t x = 0; x < out_w; ++x) {
        if (!holds(c.grid, y, x)) continue;
        const int64_t p = position(c.grid, out_w, y, x);
        for (int32_t o = 0; o < c.outputs; ++o) {
          float acc = bias[static_cast<size_t>(o)];
          for (int32_t ky = 0; ky < c.kernel_height; ++ky) {
            for (int32_t kx = 0; kx < c.kernel_width; ++kx) {
              if (c.kind == COMNECK_CHECKERBOARD && (ky + kx) % 2 == 0) continue;
              int32_t iy = y * c.stride + ky - c.padding;
              int32_t ix = x * c.stride + kx - c.padding;
              if (c.kind == COMNECK_TRANSPOSED) {
                if ((y + c.padding - ky) % c.stride != 0 || (x + c.padding - kx) % c.stride != 0) continue;
                iy = (y + c.padding - ky) / c.stride;
                ix = (x + c.padding - kx) / c.stride;
              }
              if (iy < 0 || ix < 0 || iy >= c.height || ix >= c.width) continue;
              int32_t k = 0;
              for (size_t s = 0; s < sources.size(); ++s) {
                for (int32_t i = 0; i < std::abs(c.sources[s]); ++i, ++k) {
                  if (c.sources[s] < 0) continue;
                  const int64_t w = c.kind == COMNECK_TRANSPOSED ? (int64_t{k} * c.outputs + o) * taps
                                                                 : (int64_t{o} * inputs + k) * taps;
                  const int64_t from = sources[s].view.grid == COMNECK_FULL ? int64_t{iy} * c.width + ix : p;
                  acc = fmaf(sources[s].element(n, from, i), weight[static_cast<size_t>(w + ky * c.kernel_width + kx)],
                             acc);
                }
              }
            }
          }
          if (c.residual) acc = acc + residual.element(n, p, o);
          if (c.function == COMNECK_RELU) acc = acc > 0.0f ? acc : 0.0f;
          expected[static_cast<size_t>(destination.index(n, p, o))] = acc;
        }
      }
    }
  }

  const comneck_convolution geometry{inputs,   c.outputs, c.kernel_height, c.kernel_width,
                                     c.stride, c.padding, c.kind,          COMNECK_PRECISION_F32};
  for (int32_t isa = COMNECK_ISA_PORTABLE; isa <= comneck::best_isa(); ++isa) {
    for (int32_t threads = 1; threads <= 3; ++threads) {
      comneck_context *context = nullptr;
      comneck_layer *layer = nullptr;
      comneck_plan *plan = nullptr;
      void *memory = nullptr;
      CHECK_EQ(comneck_context_create(threads, isa, &context), COMNECK_OK);
      CHECK_EQ(
          comneck_layer_create(context, &geometry, weight.data(), static_cast<int64_t>(weight.size()) * 4, COMNECK_F32,
                               bias.data(), static_cast<int64_t>(bias.size()) * 4, COMNECK_F32, &layer),
          COMNECK_OK);
      CHECK_EQ(comneck_plan_create(context, &plan), COMNECK_OK);
      const int32_t status =
          comneck_plan_convolution(plan, layer, views.data(), static_cast<int32_t>(views.size()),
                                   c.residual ? &residual.view : nullptr, c.function, &destination.view);
      if (status != COMNECK_OK) std::fprintf(stderr, "%s\n", comneck_last_error());
      CHECK_EQ(status, COMNECK_OK);
      CHECK_EQ(comneck_plan_seal(plan, offset, &memory), COMNECK_OK);
      auto *bytes = static_cast<char *>(memory);
      for (const Buffer &source : sources)
        std::memcpy(bytes + source.view.offset_bytes, source.values.data(), source.values.size() * 4);
      std::memcpy(bytes + residual.view.offset_bytes, residual.values.data(), residual.values.size() * 4);
      std::memcpy(bytes + destination.view.offset_bytes, destination.values.data(), destination.values.size() * 4);
      CHECK_EQ(comneck_plan_execute(plan), COMNECK_OK);
      const auto *actual = reinterpret_cast<const float *>(bytes + destination.view.offset_bytes);
      for (size_t i = 0; i < expected.size(); ++i) {
        const bool both_nan = actual[i] != actual[i] && expected[i] != expected[i];
        if (!both_nan && std::bit_cast<uint32_t>(actual[i]) != std::bit_cast<uint32_t>(expected[i])) {
          std::fprintf(stderr, "isa %d, %d threads, element %zu of %zu: %a instead of %a\n", isa, threads, i,
                       expected.size(), static_cast<double>(actual[i]), static_cast<double>(expected[i]));
          CHECK(false);
        }
      }
      comneck_plan_destroy(plan);
      comneck_layer_destroy(layer);
      comneck_context_destroy(context);
    }
  }
}

Case random_case() {
  const auto below = [](uint32_t n) { return static_cast<int32_t>(random_bits() % n); };
  Case c{};
  c.images = below(4) == 0 ? 5 : 1;
  c.height = 1 + below(8);
  c.width = 1 + below(8);
  c.outputs = below(3) == 0 ? 60 + below(80) : 1 + below(40);
  c.kind = below(3);
  c.grid = COMNECK_FULL;
  c.residual = below(2) == 0;
  c.function = below(2) == 0 ? COMNECK_RELU : COMNECK_NONE;
  if (c.kind == COMNECK_TRANSPOSED) {
    c.stride = 1 + below(3);
    c.padding = below(3);
    c.kernel_height = 1 + below(static_cast<uint32_t>(c.stride + 2 * c.padding));
    c.kernel_width = 1 + below(static_cast<uint32_t>(c.stride + 2 * c.padding));
  } else {
    c.kernel_height = c.kernel_width = 1 + 2 * below(3);
    c.padding = c.kernel_height / 2;
    c.stride = c.kind == COMNECK_DIRECT && below(3) == 0 ? 2 : 1;
    if (c.stride == 1) c.grid = below(3);
  }
  const int32_t count = 1 + below(3);
  for (int32_t i = 0; i < count; ++i) c.sources.push_back(1 + below(20));
  if (c.kernel_height == 1 && c.kernel_width == 1 && c.stride == 1 && c.padding == 0 && c.kind != COMNECK_TRANSPOSED) {
    c.half_source = below(2) == 0;
    if (c.kind == COMNECK_CHECKERBOARD) c.kind = COMNECK_DIRECT;  // a single even tap is no tap at all
  }
  if (count > 1 && below(2) == 0) c.sources[1] = -c.sources[1];
  return c;
}

// bf16 against f64 sums of the rounded operands.
void check_bf16() {
  for (const int32_t inputs : {1, 6, 33, 512}) {
    constexpr int32_t kRows = 29, kOutputs = 75;
    std::vector<float> weight(static_cast<size_t>(inputs) * kOutputs);
    for (float &value : weight) value = static_cast<float>(random_bits() % 2001) * 1e-3f - 1.0f;
    int64_t offset = 0;
    Buffer source(offset, COMNECK_FULL, 1, 1, kRows, inputs, false);
    for (float &value : source.values) value = static_cast<float>(random_bits() % 2001) * 1e-3f - 1.0f;
    Buffer destination(offset, COMNECK_FULL, 1, 1, kRows, kOutputs, false);
    const comneck_convolution geometry{inputs, kOutputs, 1, 1, 1, 0, COMNECK_DIRECT, COMNECK_PRECISION_BF16};
    for (int32_t isa = COMNECK_ISA_PORTABLE; isa <= comneck::best_isa(); ++isa) {
      comneck_context *context = nullptr;
      comneck_layer *layer = nullptr;
      comneck_plan *plan = nullptr;
      void *memory = nullptr;
      CHECK_EQ(comneck_context_create(2, isa, &context), COMNECK_OK);
      CHECK_EQ(comneck_layer_create(context, &geometry, weight.data(), static_cast<int64_t>(weight.size()) * 4,
                                    COMNECK_F32, nullptr, 0, 0, &layer),
               COMNECK_OK);
      CHECK_EQ(comneck_plan_create(context, &plan), COMNECK_OK);
      CHECK_EQ(comneck_plan_convolution(plan, layer, &source.view, 1, nullptr, COMNECK_NONE, &destination.view),
               COMNECK_OK);
      CHECK_EQ(comneck_plan_seal(plan, offset, &memory), COMNECK_OK);
      auto *bytes = static_cast<char *>(memory);
      std::memcpy(bytes + source.view.offset_bytes, source.values.data(), source.values.size() * 4);
      CHECK_EQ(comneck_plan_execute(plan), COMNECK_OK);
      const auto *actual = reinterpret_cast<const float *>(bytes + destination.view.offset_bytes);
      for (int32_t r = 0; r < kRows; ++r) {
        for (int32_t o = 0; o < kOutputs; ++o) {
          double sum = 0;
          for (int32_t k = 0; k < inputs; ++k) {
            sum +=
                static_cast<double>(comneck::from_bf16(comneck::to_bf16(source.element(0, r, k)))) *
                static_cast<double>(comneck::from_bf16(comneck::to_bf16(weight[static_cast<size_t>(o * inputs + k)])));
          }
          CHECK(fabs(sum - static_cast<double>(actual[destination.index(0, r, o)])) <= 1e-4);
        }
      }
      comneck_plan_destroy(plan);
      comneck_layer_destroy(layer);
      comneck_context_destroy(context);
    }
  }
}

// Every tile of a table of kernels, segments with rows that sit out included, against the same chain in plain code.
// exact: bit by bit.
void check_tiles(const comneck::GemmKernels &kernels, bool bf16, bool exact) {
  for (int32_t v = 1; v <= kernels.vectors; ++v) {
    const int32_t width = v * kernels.lanes;
    for (int32_t rows = 1; rows <= kernels.rows[v]; ++rows) {
      constexpr int32_t kUnits = 19, kFirst = 7;
      std::vector<uint32_t> a(static_cast<size_t>(rows * kUnits));
      std::vector<uint32_t> b(static_cast<size_t>(width * kUnits));
      const auto small = [&] { return static_cast<float>(static_cast<int32_t>(random_bits() % 4001) - 2000) * 1e-3f; };
      const auto unit = [&]() -> uint32_t {
        if (!bf16) return std::bit_cast<uint32_t>(small());
        return comneck::to_bf16(small()) | uint32_t{comneck::to_bf16(small())} << 16;
      };
      for (uint32_t &value : a) value = unit();
      for (uint32_t &value : b) value = unit();
      float bias[comneck::kMaxColumns];
      for (float &value : bias) value = small();
      const uint32_t all = (1u << rows) - 1;
      const uint32_t some = random_bits() & all;
      comneck::Segment segments[2]{};
      for (int32_t r = 0; r < rows; ++r) {
        segments[0].a[r] = reinterpret_cast<const char *>(&a[static_cast<size_t>(r * kUnits)]);
        segments[1].a[r] = segments[0].a[r] + kFirst * 4;
      }
      segments[0].count = kFirst;
      segments[0].rows = some;
      segments[1].b = kFirst;
      segments[1].count = kUnits - kFirst;
      segments[1].rows = all;
      float acc[comneck::kMaxRows * comneck::kMaxColumns];
      comneck::TileCall call{};
      call.segments = segments;
      call.segment_count = 2;
      call.b = reinterpret_cast<const char *>(b.data());
      call.bias = bias;
      call.acc = acc;
      kernels.tile[v][rows](call);
      for (int32_t r = 0; r < rows; ++r) {
        for (int32_t c = 0; c < width; ++c) {
          float expected = bias[c];
          for (int32_t k = (some >> r & 1u) != 0 ? 0 : kFirst; k < kUnits; ++k) {
            const uint32_t x = a[static_cast<size_t>(r * kUnits + k)];
            const uint32_t y = b[static_cast<size_t>(k * width + c)];
            if (!bf16) {
              expected = fmaf(std::bit_cast<float>(x), std::bit_cast<float>(y), expected);
            } else {
              expected = fmaf(std::bit_cast<float>(x << 16), std::bit_cast<float>(y << 16), expected);
              expected = fmaf(std::bit_cast<float>(x & 0xFFFF0000u), std::bit_cast<float>(y & 0xFFFF0000u), expected);
            }
          }
          const float actual = acc[r * comneck::kMaxColumns + c];
          CHECK(exact ? actual == expected : fabsf(actual - expected) <= 1e-4f);
        }
      }
    }
  }
}

void check_all_tiles() {
  check_tiles(comneck::gemm_portable(), false, true);
  check_tiles(comneck::gemm_bf16_portable(), true, true);
  if (comneck::best_isa() >= COMNECK_ISA_AVX2) {
    check_tiles(comneck::gemm_avx2(), false, true);
    check_tiles(comneck::gemm_narrow_avx2(), false, true);
    check_tiles(comneck::gemm_bf16_avx2(), true, true);
  }
  if (comneck::best_isa() >= COMNECK_ISA_AVX512) {
    check_tiles(comneck::gemm_avx512(), false, true);
    check_tiles(comneck::gemm_bf16_avx512(), true, true);
  }
  if (comneck::has_avx512_bf16()) {
    check_tiles(comneck::gemm_bf16_avx512bf16(), true, false);
    check_tiles(comneck::gemm_bf16_narrow_avx512bf16(), true, false);
  }
}

void check_misuse() {
  comneck_context *context = nullptr;
  comneck_layer *layer = nullptr;
  comneck_plan *plan = nullptr;
  void *memory = nullptr;
  CHECK_EQ(comneck_context_create(0, 0, &context), COMNECK_MISUSE);
  CHECK_EQ(comneck_context_create(1, 9, &context), COMNECK_MISUSE);
  CHECK_EQ(comneck_context_create(1, 0, nullptr), COMNECK_MISUSE);
  CHECK_EQ(comneck_context_create(1, 0, &context), COMNECK_OK);
  const float weight[4] = {1, 2, 3, 4};
  comneck_convolution geometry{2, 2, 1, 1, 1, 0, COMNECK_DIRECT, COMNECK_PRECISION_F32};
  CHECK_EQ(comneck_layer_create(context, &geometry, weight, 15, COMNECK_F32, nullptr, 0, 0, &layer), COMNECK_MISUSE);
  CHECK_EQ(comneck_layer_create(context, &geometry, weight, 16, COMNECK_U8, nullptr, 0, 0, &layer), COMNECK_MISUSE);
  CHECK_EQ(comneck_layer_create(context, &geometry, weight, 16, COMNECK_F32, weight, 4, COMNECK_F32, &layer),
           COMNECK_MISUSE);
  geometry.stride = 0;
  CHECK_EQ(comneck_layer_create(context, &geometry, weight, 16, COMNECK_F32, nullptr, 0, 0, &layer), COMNECK_MISUSE);
  geometry.stride = 1;
  CHECK_EQ(comneck_layer_create(context, &geometry, weight, 16, COMNECK_F32, nullptr, 0, 0, &layer), COMNECK_OK);
  CHECK_EQ(comneck_plan_create(context, &plan), COMNECK_OK);
  const comneck_view good{0, 64, COMNECK_F32, COMNECK_FULL, 1, 2, 4, 2, 0, 2};
  comneck_view to = good;
  to.offset_bytes = 64;
  for (int i = 0; i < 9; ++i) {
    comneck_view bad = good;
    if (i == 0) bad.bytes = 63;
    if (i == 1) bad.offset_bytes = -64;
    if (i == 2) bad.offset_bytes = 4;
    if (i == 3) bad.channels = 3;
    if (i == 4) bad.channel_offset = 1;
    if (i == 5) bad.height = 0x7FFFFFFF, bad.width = 0x7FFFFFFF;
    if (i == 6) bad.grid = COMNECK_ANCHORS;
    if (i == 7) bad.type = COMNECK_BF16;
    if (i == 8) bad.images = 2;
    CHECK_EQ(comneck_plan_convolution(plan, layer, &bad, 1, nullptr, COMNECK_NONE, &to), COMNECK_MISUSE);
  }
  CHECK_EQ(comneck_plan_convolution(plan, layer, &good, 1, nullptr, COMNECK_NONE, &good), COMNECK_MISUSE);
  CHECK_EQ(comneck_plan_convolution(plan, layer, &good, 1, nullptr, COMNECK_NONE, &to), COMNECK_OK);
  CHECK_EQ(comneck_plan_execute(plan), COMNECK_MISUSE);
  CHECK_EQ(comneck_plan_seal(plan, 127, &memory), COMNECK_MISUSE);
  CHECK_EQ(comneck_plan_seal(plan, 128, &memory), COMNECK_OK);
  CHECK_EQ(comneck_plan_seal(plan, 128, &memory), COMNECK_MISUSE);
  CHECK_EQ(comneck_plan_execute(plan), COMNECK_OK);
  CHECK_EQ(comneck_plan_add(plan, &good, &good, &to), COMNECK_MISUSE);
  comneck_plan_destroy(plan);
  comneck_layer_destroy(layer);
  comneck_context_destroy(context);
  comneck_plan_destroy(nullptr);
  comneck_layer_destroy(nullptr);
  comneck_context_destroy(nullptr);
}

}  // namespace

int main() {
  check_misuse();
  check_all_tiles();
  check_bf16();
  for (int i = 0; i < 150; ++i) check_case(random_case(), i % 4 == 3);
  // Sums longer than a block of k, and a map larger than a block of rows.
  check_case({1, 6, 5, 65, 5, 5, 1, 2, COMNECK_DIRECT, COMNECK_FULL, {100, 21}, false, true, COMNECK_RELU}, false);
  check_case({2, 20, 19, 33, 3, 3, 1, 1, COMNECK_DIRECT, COMNECK_FULL, {3}, false, false, COMNECK_RELU}, false);
  check_case({1, 43, 30, 20, 14, 14, 14, 0, COMNECK_DIRECT, COMNECK_FULL, {3}, false, false, COMNECK_NONE}, false);
  return 0;
}
