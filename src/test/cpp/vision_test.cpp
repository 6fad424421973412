// Row-wise operations and attention: every instruction set gives the bits of a plain loop written here from the
// definition, on ragged shapes, views with a stride, hard values, in place, and whatever the split of the work; nothing
// outside the rows is touched.
#include "vision/vision.h"

#include <algorithm>
#include <bit>
#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "canonical_math.h"
#include "check.h"

using namespace comneck;

namespace {

using P = PortableLanes;

struct Isa {
  const char *name;
  const VisionKernels *kernels;
};

std::vector<Isa> available() {
  std::vector<Isa> all = {{"portable", &vision_portable()}};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    all.push_back({"AVX2", &vision_avx2()});
  } else {
    std::printf("AVX2 absent: skipped\n");
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    all.push_back({"AVX-512", &vision_avx512()});
    if (__builtin_cpu_supports("avx512bf16")) {
      all.push_back({"AVX-512 with bf16", &vision_avx512bf16()});
    } else {
      std::printf("AVX512_BF16 absent: skipped\n");
    }
  } else {
    std::printf("AVX-512 absent: skipped\n");
  }
  return all;
}

uint64_t state = 1;

uint64_t random_bits() {
  state += 0x9E3779B97F4A7C15u;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// In [-1, 1).
float random_value() { return static_cast<float>(static_cast<double>(random_bits() >> 40) * 0x1p-23 - 1.0); }

// Mostly tame; every seventh value is an outlier, a subnormal, a zero of either sign.
float hard_value() {
  static const float specials[] = {0.0f, -0.0f, 1e-40f, -1e-40f, 1e-20f, 300.0f, -700.0f, 0x1p-126f};
  uint64_t r = random_bits();
  return r % 7 == 0 ? specials[(r >> 8) % 8] : 3.0f * random_value();
}

// Rows of floats with a stride, and a copy of them as bf16. Filled with poison first.
struct Matrix {
  Matrix(int64_t row_count, int64_t channel_count, int64_t row_stride, int32_t element_type)
      : rows(row_count),
        channels(channel_count),
        stride(row_stride),
        type(element_type),
        bytes(static_cast<size_t>(size())) {
    std::fill(bytes.begin(), bytes.end(), static_cast<char>(0xA5));
  }

  // Up to the last channel of the last row, so that AddressSanitizer sees any step beyond.
  int64_t size() const { return ((rows - 1) * stride + channels) * (type == kF32 ? 4 : 2); }

  float at(int64_t r, int64_t c) const {
    int64_t i = r * stride + c;
    if (type == kF32) {
      float x;
      std::memcpy(&x, bytes.data() + i * 4, 4);
      return x;
    }
    uint16_t x;
    std::memcpy(&x, bytes.data() + i * 2, 2);
    return P::load_bf16(&x);
  }

  void set(int64_t r, int64_t c, float x) {
    int64_t i = r * stride + c;
    if (type == kF32) {
      std::memcpy(bytes.data() + i * 4, &x, 4);
    } else {
      uint16_t rounded;
      P::store_bf16(&rounded, x);
      std::memcpy(bytes.data() + i * 2, &rounded, 2);
    }
  }

  void fill(const std::function<float()> &next) {
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t c = 0; c < channels; c++) {
        set(r, c, next());
      }
    }
  }

  Rows view() const { return {bytes.data(), type, stride}; }
  MutableRows out() { return {bytes.data(), type, stride}; }

  int64_t rows, channels, stride;
  int32_t type;
  std::vector<char> bytes;
};

bool same(float a, float b) { return (a != a && b != b) || std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); }

void same_bytes(const std::string &what, const Matrix &expected, const Matrix &got) {
  for (int64_t r = 0; r < expected.rows; r++) {
    for (int64_t c = 0; c < expected.channels; c++) {
      if (!same(expected.at(r, c), got.at(r, c))) {
        std::fprintf(stderr, "%s: row %" PRId64 " channel %" PRId64 " is %.9g, should be %.9g\n", what.c_str(), r, c,
                     static_cast<double>(got.at(r, c)), static_cast<double>(expected.at(r, c)));
        std::exit(1);
      }
    }
    // the gap up to the next row
    int64_t element = expected.type == kF32 ? 4 : 2;
    int64_t from = (r * expected.stride + expected.channels) * element;
    int64_t to = std::min(((r + 1) * expected.stride) * element, expected.size());
    if (from < to) {
      CHECK(std::memcmp(expected.bytes.data() + from, got.bytes.data() + from, static_cast<size_t>(to - from)) == 0);
    }
  }
}

using Range = std::function<void(const VisionKernels &, Matrix &, int64_t, int64_t)>;

// Runs one operation on every instruction set, whole and in ranges, and compares with the expected matrix.
void everywhere(const std::string &what, const Matrix &expected, const Matrix &before, const Range &run) {
  for (const Isa &isa : available()) {
    Matrix whole = before;
    run(*isa.kernels, whole, 0, whole.rows);
    same_bytes(what + ", " + isa.name, expected, whole);
    Matrix split = before;
    for (int64_t first = 0; first < split.rows;) {
      int64_t count = std::min<int64_t>(split.rows - first, 1 + static_cast<int64_t>(random_bits() % 6));
      run(*isa.kernels, split, first, count);
      first += count;
    }
    same_bytes(what + " in ranges, " + isa.name, expected, split);
  }
}

float sixteen_sums(const std::vector<float> &x) {
  float partial[16] = {};
  for (size_t i = 0; i < x.size(); i++) {
    partial[i % 16] = partial[i % 16] + x[i];
  }
  float sum = partial[0];
  for (int i = 1; i < 16; i++) {
    sum = sum + partial[i];
  }
  return sum;
}

void test_layer_norm() {
  for (int64_t channels : {1, 2, 7, 8, 15, 16, 17, 31, 33, 100, 192, 1024, 1030}) {
    for (int32_t type : {kF32, kBf16}) {
      for (int32_t out_type : {kF32, kBf16}) {
        const int64_t rows = 1 + static_cast<int64_t>(random_bits() % 11);
        Matrix x(rows, channels, channels + 5, type);
        x.fill(hard_value);
        std::vector<float> weight, bias;
        for (int64_t c = 0; c < channels; c++) {
          weight.push_back(hard_value());
          bias.push_back(random_value());
        }
        Matrix before(rows, channels, channels + 3, out_type);
        Matrix expected = before;
        for (int64_t r = 0; r < rows; r++) {
          std::vector<float> values;
          for (int64_t c = 0; c < channels; c++) {
            values.push_back(x.at(r, c));
          }
          float mean = sixteen_sums(values) / static_cast<float>(channels);
          float partial[16] = {};
          for (int64_t c = 0; c < channels; c++) {
            float d = values[static_cast<size_t>(c)] - mean;
            partial[c % 16] = std::fma(d, d, partial[c % 16]);
          }
          float variance = partial[0];
          for (int i = 1; i < 16; i++) {
            variance = variance + partial[i];
          }
          variance = variance / static_cast<float>(channels);
          float inverse = 1.0f / std::sqrt(variance + 1e-5f);
          for (size_t c = 0; c < values.size(); c++) {
            expected.set(r, static_cast<int64_t>(c), std::fma((values[c] - mean) * inverse, weight[c], bias[c]));
          }
        }
        everywhere("layer_norm of " + std::to_string(channels), expected, before,
                   [&](const VisionKernels &kernels, Matrix &y, int64_t first, int64_t count) {
                     LayerNormCall call{x.view(), y.out(), weight.data(), bias.data(), channels, 1e-5f};
                     kernels.layer_norm(call, first, count);
                   });
      }
    }
  }
}

void test_element_wise() {
  for (int64_t channels : {1, 3, 8, 15, 16, 17, 40, 192}) {
    for (int types = 0; types < 8; types++) {
      const int32_t type_a = types & 1 ? kBf16 : kF32;
      const int32_t type_b = types & 2 ? kBf16 : kF32;
      const int32_t type_out = types & 4 ? kBf16 : kF32;
      const int64_t images = 2, positions = 5, rows = images * positions;
      Matrix a(rows, channels, channels + 1, type_a), b(rows, channels, channels, type_b),
          x(rows, channels, channels + 2, type_a);
      a.fill(hard_value);
      b.fill(hard_value);
      x.fill(hard_value);
      a.set(0, 0, NAN);
      b.set(1, 0, INFINITY);
      b.set(2, 0, -INFINITY);
      const Matrix before(rows, channels, channels + 4, type_out);
      const std::string name = " of " + std::to_string(channels) + " channels, types " + std::to_string(types);

      Matrix expected = before;
      auto each = [&](const std::function<float(int64_t, int64_t)> &value) {
        for (int64_t r = 0; r < rows; r++) {
          for (int64_t c = 0; c < channels; c++) {
            expected.set(r, c, value(r, c));
          }
        }
      };

      each([&](int64_t r, int64_t c) { return std::fma(a.at(r, c), canonical::sigmoid<P>(b.at(r, c)), x.at(r, c)); });
      everywhere("gate" + name, expected, before,
                 [&](const VisionKernels &kernels, Matrix &y, int64_t first, int64_t count) {
                   kernels.gate({a.view(), b.view(), x.view(), y.out(), channels}, first, count);
                 });
      if (type_out == type_a) {  // in place: the destination is x
        Matrix gated = x;
        for (int64_t r = 0; r < rows; r++) {
          for (int64_t c = 0; c < channels; c++) {
            gated.set(r, c, expected.at(r, c));
          }
        }
        everywhere("gate in place" + name, gated, x,
                   [&](const VisionKernels &kernels, Matrix &y, int64_t first, int64_t count) {
                     kernels.gate({a.view(), b.view(), y.view(), y.out(), channels}, first, count);
                   });
      }

      each([&](int64_t r, int64_t c) { return a.at(r, c) + b.at(r, c); });
      everywhere("add" + name, expected, before,
                 [&](const VisionKernels &kernels, Matrix &y, int64_t first, int64_t count) {
                   kernels.add({a.view(), b.view(), y.out(), channels}, first, count);
                 });

      Matrix gains(images, channels, channels + 3, kF32);
      gains.fill(hard_value);
      each([&](int64_t r, int64_t c) { return a.at(r, c) * gains.at(r / positions, c); });
      everywhere("scale" + name, expected, before,
                 [&](const VisionKernels &kernels, Matrix &y, int64_t first, int64_t count) {
                   std::vector<float> factors(gains.bytes.size() / 4);
                   std::memcpy(factors.data(), gains.bytes.data(), gains.bytes.size());
                   kernels.scale({a.view(), y.out(), factors.data(), gains.stride, positions, channels}, first, count);
                 });

      each([&](int64_t r, int64_t c) { return b.at(r, c); });
      everywhere("copy" + name, expected, before,
                 [&](const VisionKernels &kernels, Matrix &y, int64_t first, int64_t count) {
                   kernels.copy({b.view(), y.out(), rows, rows, 0, channels}, first, count);
                 });

      // tokens 2 and 3 of each image
      Matrix few_before(images * 2, channels, channels, type_out);
      Matrix few = few_before;
      for (int64_t r = 0; r < few.rows; r++) {
        for (int64_t c = 0; c < channels; c++) {
          few.set(r, c, a.at(r / 2 * positions + 2 + r % 2, c));
        }
      }
      everywhere("select" + name, few, few_before,
                 [&](const VisionKernels &kernels, Matrix &y, int64_t first, int64_t count) {
                   kernels.copy({a.view(), y.out(), positions, 2, 2, channels}, first, count);
                 });

      for (int64_t shift : {0, 1}) {
        const int64_t tokens = positions + shift;
        std::vector<float> token, table;
        for (int64_t i = 0; i < tokens * channels; i++) {
          table.push_back(hard_value());
        }
        for (int64_t c = 0; c < channels; c++) {
          token.push_back(hard_value());
        }
        Matrix put_before(images * tokens, channels, channels + 1, type_out);
        Matrix put = put_before;
        for (int64_t r = 0; r < put.rows; r++) {
          for (int64_t c = 0; c < channels; c++) {
            int64_t t = r % tokens;
            float v = t < shift ? token[static_cast<size_t>(c)] : b.at(r / tokens * positions + t - shift, c);
            put.set(r, c, v + table[static_cast<size_t>(t * channels + c)]);
          }
        }
        everywhere("embed" + name, put, put_before,
                   [&](const VisionKernels &kernels, Matrix &y, int64_t first, int64_t count) {
                     kernels.embed({b.view(), y.out(), shift ? token.data() : nullptr, table.data(), tokens, channels},
                                   first, count);
                   });
      }
    }
  }
}

void test_pixels() {
  const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
  const float deviation[3] = {0.26862954f, 0.26130258f, 0.27577711f};
  std::vector<float> table(3 * 256);
  normalize_table(mean, deviation, 3, table.data());
  std::vector<uint8_t> pixels(256 * 4);
  for (int i = 0; i < 256 * 4; i++) {
    pixels[static_cast<size_t>(i)] = static_cast<uint8_t>(i * 7 + i / 256);
  }
  for (int32_t type : {kF32, kBf16}) {
    Matrix before(256, 3, 3, type);
    Matrix expected = before;
    for (int64_t r = 0; r < 256; r++) {
      for (int64_t c = 0; c < 3; c++) {
        expected.set(r, c,
                     (static_cast<float>(pixels[static_cast<size_t>(r * 4 + c)]) / 255.0f - mean[c]) / deviation[c]);
      }
    }
    everywhere("normalize", expected, before,
               [&](const VisionKernels &kernels, Matrix &y, int64_t first, int64_t count) {
                 kernels.normalize({pixels.data(), 4, y.out(), table.data(), 3}, first, count);
               });

    Matrix x(256, 3, 5, type);
    x.fill([] { return 0.5f + random_value(); });
    const float hard[] = {NAN, INFINITY, -INFINITY, -0.0f, 1.0f, 0.5f, 1.0f / 510, 254.5f / 255, 1e-40f};
    for (int i = 0; i < 9; i++) {
      x.set(i, 1, hard[i]);
    }
    for (const Isa &isa : available()) {
      std::vector<uint8_t> out(256 * 4, 0xA5);
      isa.kernels->to_pixels({x.view(), out.data(), 4, 3}, 0, 100);
      isa.kernels->to_pixels({x.view(), out.data(), 4, 3}, 100, 156);
      for (int64_t r = 0; r < 256; r++) {
        for (int64_t c = 0; c < 3; c++) {
          float v = x.at(r, c);
          v = v > 0 ? std::min(v, 1.0f) : 0.0f;
          CHECK_EQ(static_cast<int>(out[static_cast<size_t>(r * 4 + c)]),
                   static_cast<int>(std::floor(v * 255.0f + 0.5f)));
        }
        CHECK_EQ(static_cast<int>(out[static_cast<size_t>(r * 4 + 3)]), 0xA5);
      }
    }
  }
}

// Packs and attends with buffers of exactly the promised sizes, items in reverse order, scratch poisoned.
void attend_all(const AttentionKernels &kernels, AttentionCall call, bool reverse) {
  const int64_t packed = kernels.packed_bytes(call), thread = kernels.thread_bytes(call);
  std::unique_ptr<char[]> packed_memory(new char[static_cast<size_t>(packed)]);
  std::unique_ptr<char[]> thread_memory(new char[static_cast<size_t>(thread)]);
  std::memset(packed_memory.get(), 0xFF, static_cast<size_t>(packed));  // NaN
  call.packed = packed_memory.get();
  const int64_t heads = call.images * call.heads, items = attention_items(call);
  for (int64_t i = 0; i < heads; i++) {
    kernels.pack(call, reverse ? heads - 1 - i : i);
  }
  for (int64_t i = 0; i < items; i++) {
    std::memset(thread_memory.get(), 0xFF, static_cast<size_t>(thread));
    kernels.attend(call, reverse ? items - 1 - i : i, thread_memory.get());
  }
}

void test_attention(int64_t images, int64_t tokens, int64_t heads, int64_t depth, int32_t type, int32_t out_type,
                    float spread) {
  const int64_t width = heads * depth;
  const std::string name =
      "attention of " + std::to_string(tokens) + " tokens, " + std::to_string(heads) + " x " + std::to_string(depth);
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(depth)));
  Matrix qkv(images * tokens, 3 * width, 3 * width + 7, type);
  qkv.fill([&] { return spread == 0 ? hard_value() : spread * random_value(); });
  const Matrix before(images * tokens, width, width + 3, out_type);
  Matrix expected = before;
  std::vector<double> exact;  // row by row
  for (int64_t row = 0; row < images * tokens; row++) {
    const int64_t image = row / tokens;
    for (int64_t h = 0; h < heads; h++) {
      std::vector<float> s;
      std::vector<double> exact_s;
      float most = -INFINITY;
      for (int64_t j = 0; j < tokens; j++) {
        float chain = 0;
        double sum = 0;
        for (int64_t d = 0; d < depth; d++) {
          float q = qkv.at(row, h * depth + d), k = qkv.at(image * tokens + j, width + h * depth + d);
          chain = std::fma(q, k, chain);
          sum += static_cast<double>(q) * static_cast<double>(k);
        }
        s.push_back(chain * scale);
        exact_s.push_back(sum / std::sqrt(static_cast<double>(depth)));
        most = std::max(most, s.back());
      }
      double exact_most = *std::max_element(exact_s.begin(), exact_s.end()), exact_total = 0;
      for (size_t j = 0; j < s.size(); j++) {
        s[j] = canonical::exp<P>(s[j] - most);
        exact_s[j] = std::exp(exact_s[j] - exact_most);
        exact_total += exact_s[j];
      }
      float inverse = 1.0f / sixteen_sums(s);
      for (int64_t d = 0; d < depth; d++) {
        float chain = 0;
        double sum = 0;
        for (int64_t j = 0; j < tokens; j++) {
          float v = qkv.at(image * tokens + j, 2 * width + h * depth + d);
          chain = std::fma(s[static_cast<size_t>(j)], v, chain);
          sum += exact_s[static_cast<size_t>(j)] * static_cast<double>(v);
        }
        expected.set(row, h * depth + d, chain * inverse);
        exact.push_back(sum / exact_total);
      }
    }
  }
  auto error = [&](const Matrix &got) {
    double difference = 0, norm = 0;
    for (int64_t r = 0; r < got.rows; r++) {
      for (int64_t c = 0; c < width; c++) {
        double e = exact[static_cast<size_t>(r * width + c)], d = static_cast<double>(got.at(r, c)) - e;
        difference += d * d;
        norm += e * e;
      }
    }
    return std::sqrt(difference / norm);
  };
  if (spread != 0) {
    CHECK(error(expected) < (out_type == kF32 ? 2e-6 : 4e-3));
  }
  for (const Isa &isa : available()) {
    for (bool reverse : {false, true}) {
      Matrix got = before;
      attend_all(isa.kernels->attention, {qkv.view(), got.out(), images, tokens, heads, depth, scale, nullptr},
                 reverse);
      same_bytes(name + ", " + isa.name, expected, got);
    }
    Matrix got = before;
    attend_all(isa.kernels->attention_bf16, {qkv.view(), got.out(), images, tokens, heads, depth, scale, nullptr},
               false);
    if (spread != 0) {
      double e = error(got);
      if (!(e < 8e-3)) {
        std::fprintf(stderr, "%s in bf16, %s: relative error %g\n", name.c_str(), isa.name, e);
        std::exit(1);
      }
    }
  }
}

void test_attention_specials() {
  // One NaN in a key makes every output of its head NaN, and nothing else.
  for (const Isa &isa : available()) {
    Matrix qkv(40, 3 * 8, 24, kF32), out(40, 8, 8, kF32);
    qkv.fill(random_value);
    qkv.set(17, 8 + 2, NAN);
    attend_all(isa.kernels->attention, {qkv.view(), out.out(), 1, 40, 2, 4, 0.5f, nullptr}, false);
    for (int64_t r = 0; r < 40; r++) {
      for (int64_t c = 0; c < 8; c++) {
        CHECK_EQ(std::isnan(out.at(r, c)), c < 4);
      }
    }
  }
}

}  // namespace

int main() {
  test_layer_norm();
  test_element_wise();
  test_pixels();
  for (int64_t tokens : {1, 2, 15, 16, 17, 31, 49}) {
    for (int64_t depth : {1, 3, 8, 16, 33, 64}) {
      test_attention(1 + tokens % 2, tokens, 1 + depth % 3, depth, tokens % 3 ? kF32 : kBf16, depth % 2 ? kBf16 : kF32,
                     1.5f);
      test_attention(1, tokens, 2, depth, kF32, kF32, 0.0f);
    }
  }
  test_attention(1, 257, 1, 64, kF32, kF32, 2.0f);
  test_attention(1, 257, 1, 64, kBf16, kBf16, 2.0f);
  test_attention(1, 577, 1, 80, kF32, kF32, 1.0f);
  test_attention(1, 65, 1, 130, kF32, kF32, 1.0f);
  test_attention_specials();
  return 0;
}
