// The kernel against f64 on the same bf16 and fp16 numbers, at sizes around its tiles, with rows that are longer than they have to be and
// NaNs in between, so that whatever it reads beyond its channels shows; and what softmax has to do with infinities and NaNs.
#include "fused_attention/fused_attention.h"

#include <cmath>
#include <functional>
#include <random>

#include "backend/bits.h"
#include "check.h"
#include "device_array.h"
#include "hopper.h"

using namespace comneck;
using namespace comneck::cuda;

namespace {

constexpr int32_t kDepth = 64;
constexpr uint16_t kNan = 0x7FFF;  // in both types
constexpr uint16_t kUntouched = 0xCDCD;

struct Numbers {
  int32_t type;
  double unit;  // largest relative error of rounding to the type
  uint16_t narrow(float x) const { return type == COMNECK_BF16 ? to_bf16(x) : to_f16(x); }
  float wide(uint16_t x) const { return type == COMNECK_BF16 ? from_bf16(x) : from_f16(x); }
};
const Numbers kBf16{COMNECK_BF16, std::ldexp(1.0, -8)};
const Numbers kF16{COMNECK_F16, std::ldexp(1.0, -11)};

// qkv (images, tokens, 3, heads, 64): rows of `stride` elements of which the first `before` and those behind the channels are NaN. The
// memory ends with the last row's last channel.
struct Problem {
  const Numbers &numbers;
  int32_t images, tokens, heads;
  int32_t before = 8;
  std::vector<uint16_t> qkv;

  Problem(const Numbers &chosen, int32_t image_count, int32_t token_count, int32_t head_count)
      : numbers(chosen), images(image_count), tokens(token_count), heads(head_count) {
    qkv.assign(static_cast<size_t>(rows() == 0 ? 0 : (rows() - 1) * stride() + before + 3 * width()), kNan);
  }
  int64_t rows() const { return int64_t{images} * tokens; }
  int32_t width() const { return heads * kDepth; }
  int64_t stride() const { return 3 * width() + 24; }
  int64_t out_stride() const { return width() + 16; }
  uint16_t &at(int64_t row, int32_t part, int32_t head, int32_t c) {
    return qkv[static_cast<size_t>(row * stride() + before + (part * heads + head) * kDepth + c)];
  }
  double value(int64_t row, int32_t part, int32_t head, int32_t c) { return numbers.wide(at(row, part, head, c)); }

  // Queries and keys of this size each: scores of about size^2.
  void fill(uint32_t seed, float size) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    for (int64_t row = 0; row < rows(); row++) {
      for (int32_t part = 0; part < 3; part++) {
        for (int32_t head = 0; head < heads; head++) {
          for (int32_t c = 0; c < kDepth; c++) at(row, part, head, c) = numbers.narrow(normal(generator) * (part == 2 ? 1.0f : size));
        }
      }
    }
  }

  // [row][head][c], without the gaps, which must not have been touched.
  std::vector<uint16_t> run(AttentionKernel kernel) const {
    DeviceArray<uint16_t> device(qkv);
    DeviceArray<uint16_t> out(std::vector<uint16_t>(static_cast<size_t>(rows() == 0 ? 0 : (rows() - 1) * out_stride() + 8 + width()), kUntouched));
    const Side from{device.data() + before, stride(), numbers.type};
    const Side to{out.data() + 8, out_stride(), numbers.type};
    CHECK(fused_attention(from, to, images, tokens, heads, kDepth, kernel, 4, nullptr) == cudaSuccess);
    const std::vector<uint16_t> all = out.to_host();
    std::vector<uint16_t> found;
    for (size_t i = 0; i < all.size(); i++) {
      const auto c = static_cast<int64_t>(i) % out_stride() - 8;
      if (c >= 0 && c < width()) {
        found.push_back(all[i]);
      } else {
        CHECK_EQ(all[i], kUntouched);
      }
    }
    return found;
  }

  // Against f64, within what these are good for: a score is a sum of 64 products in f32, cut off below its last bit after each addition
  // of a few of them (32 times 2^-23 of the sum of sizes); e^score, its division and its product with a value inherit that error twice;
  // weights are rounded to the type, the result too; sums over the keys lose a bit for each addition of a few.
  void check(AttentionKernel kernel, const char *name) {
    const std::vector<uint16_t> out = run(kernel);
    const double bit = std::ldexp(1.0, -23);
    double worst = 0.0;
    std::vector<double> weight(static_cast<size_t>(tokens));
    for (int64_t row = 0; row < rows(); row++) {
      const int64_t image = row / tokens * tokens;
      for (int32_t head = 0; head < heads; head++) {
        double most = -INFINITY, total = 0.0, score_error = 0.0;
        for (int32_t j = 0; j < tokens; j++) {
          double score = 0.0, sizes = 0.0;
          for (int32_t c = 0; c < kDepth; c++) {
            const double product = value(row, 0, head, c) * value(image + j, 1, head, c);
            score += product;
            sizes += std::fabs(product);
          }
          weight[static_cast<size_t>(j)] = score / 8;
          most = std::max(most, score / 8);
          if (std::isfinite(sizes)) score_error = std::max(score_error, sizes / 8 * 32 * bit);
        }
        for (double &w : weight) total += w = std::exp(w - most);
        for (int32_t c = 0; c < kDepth; c++) {
          double sum = 0.0, sizes = 0.0, values = 0.0;
          for (int32_t j = 0; j < tokens; j++) {
            const double x = value(image + j, 2, head, c);
            sum += weight[static_cast<size_t>(j)] / total * x;
            sizes += weight[static_cast<size_t>(j)] / total * std::fabs(x);
            values += std::fabs(x) / total;
          }
          const double found = numbers.wide(out[static_cast<size_t>((row * heads + head) * kDepth + c)]);
          if (std::isnan(sum)) {
            if (!std::isnan(found)) std::fprintf(stderr, "%s: row %lld, head %d, channel %d is %g, not NaN\n", name, static_cast<long long>(row), head, c, found);
            CHECK(std::isnan(found));
            continue;
          }
          if (std::isinf(sum)) {
            CHECK_EQ(found, sum);
            continue;
          }
          const double smallest = numbers.type == COMNECK_F16 ? std::ldexp(1.0, -25) : 0.0;  // weights below 2^-14
          const double tolerance = numbers.unit * std::fabs(sum) + 2 * smallest * (values + 1.0) +
                                   sizes * (numbers.unit + 2 * score_error + (tokens / 4 + 32) * bit);
          const double error = std::fabs(found - sum);
          worst = std::max(worst, tolerance > 0 ? error / tolerance : 0.0);
          if (!(error <= tolerance)) {
            std::fprintf(stderr, "%s, %d images, %d tokens, %d heads: row %lld, head %d, channel %d is %.9g instead of %.9g, allowed %.3g\n", name,
                         images, tokens, heads, static_cast<long long>(row), head, c, found, sum, tolerance);
            std::exit(1);
          }
        }
      }
    }
    if (std::getenv("COMNECK_SHOW") != nullptr) std::printf("%s %d x %d tokens, %d heads: %.3f of the tolerance\n", name, images, tokens, heads, worst);
  }
};

void check_sizes(AttentionKernel kernel, const Numbers &numbers) {
  for (const int32_t tokens : {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 81, 128, 129}) {
    Problem problem(numbers, tokens % 3 + 1, tokens, tokens % 2 + 1);
    problem.fill(static_cast<uint32_t>(tokens), static_cast<float>(tokens % 4) + 0.5f);
    problem.check(kernel, "small and medium scores");
  }
  Problem vision(numbers, 1, numbers.type == COMNECK_BF16 ? 577 : 257, 1);  // as many as a vision transformer's at 336 and at 224 or 256 pixels
  vision.fill(5, 1.7f);
  vision.check(kernel, "a vision transformer's");
  Problem heads(numbers, 2, 20, 16);
  heads.fill(6, 2.0f);
  heads.check(kernel, "sixteen heads");
  Problem large(numbers, 1, 140, 2);
  large.fill(7, 30.0f);  // scores of some hundreds: one key takes all
  large.check(kernel, "large scores");
  large.fill(8, 0.0f);  // the mean of the values
  large.check(kernel, "equal scores");
}

// Scores near 2^40: far beyond where a product with the scale could be rounded before it is subtracted.
void check_huge_scores(AttentionKernel kernel) {
  Problem problem(kBf16, 1, 70, 1);
  problem.fill(9, 1.0f);
  for (int32_t j = 0; j < 70; j++) {
    for (int32_t c = 0; c < kDepth; c++) {
      problem.at(j, 0, 0, c) = to_bf16(c == 0 ? 1048576.0f : 0.0f);
      problem.at(j, 1, 0, c) = to_bf16(c == 0 ? 8388608.0f + (j == 66 ? 65536.0f : 0.0f) : 0.0f);
    }
  }
  const std::vector<uint16_t> out = problem.run(kernel);
  for (size_t i = 0; i < 70; i++) {
    for (int32_t c = 0; c < kDepth; c++) CHECK_EQ(out[i * kDepth + static_cast<size_t>(c)], problem.at(66, 2, 0, c));
  }
}

// Scores of some -2,000, all of them: a maximum that began at zero, or took the zeros behind the last key for scores, would leave no weight.
void check_low_scores(AttentionKernel kernel, const Numbers &numbers) {
  for (const int32_t tokens : {17, 63, 70}) {
    Problem problem(numbers, 1, tokens, 1);
    problem.fill(13, 1.0f);
    for (int32_t j = 0; j < tokens; j++) {
      problem.at(j, 0, 0, 7) = numbers.narrow(128.0f);
      problem.at(j, 1, 0, 7) = numbers.narrow(-128.0f);
    }
    problem.check(kernel, "low scores");
  }
}

// One change each to two images of two heads: what it must do to the others is nothing, and the reference says what to itself.
void check_not_finite(AttentionKernel kernel, const Numbers &numbers) {
  constexpr int32_t kTokens = 70;
  const auto change = [&](const char *name, const std::function<void(Problem &)> &edit) {
    Problem problem(numbers, 2, kTokens, 2);
    problem.fill(10, 1.0f);
    for (int64_t row = 0; row < problem.rows(); row++) {
      problem.at(row, 0, 1, 3) = numbers.narrow(1.5f);  // positive, so that an infinite key gives an infinite score
    }
    edit(problem);
    problem.check(kernel, name);
  };
  const uint16_t infinite = numbers.narrow(INFINITY);
  const uint16_t minus_infinite = numbers.narrow(-INFINITY);
  change("a NaN query", [&](Problem &p) { p.at(kTokens + 17, 0, 1, 5) = kNan; });
  change("a NaN key", [&](Problem &p) { p.at(69, 1, 0, 63) = kNan; });
  change("a NaN value", [&](Problem &p) { p.at(kTokens + 65, 2, 1, 8) = kNan; });
  change("a score of minus infinity", [&](Problem &p) { p.at(3, 1, 1, 3) = minus_infinite; });
  change("a score of infinity", [&](Problem &p) { p.at(3, 1, 1, 3) = infinite; });
  change("a first tile of minus infinity", [&](Problem &p) {
    for (int32_t j = 0; j < 64; j++) p.at(kTokens + j, 1, 1, 3) = minus_infinite;
  });
  change("a last tile of minus infinity", [&](Problem &p) {
    for (int32_t j = 64; j < kTokens; j++) p.at(kTokens + j, 1, 1, 3) = minus_infinite;
  });
  change("nothing but minus infinity", [&](Problem &p) {
    for (int32_t j = 0; j < kTokens; j++) p.at(j, 1, 1, 3) = minus_infinite;
  });
  change("an infinite value", [&](Problem &p) { p.at(5, 2, 0, 0) = infinite; });
}

// The bits of an image do not depend on those beside it, nor on the order in which threads run.
void check_batches(AttentionKernel kernel) {
  Problem all(kBf16, 3, 67, 2);
  all.fill(12, 2.0f);
  const std::vector<uint16_t> expected = all.run(kernel);
  for (int32_t image = 0; image < 3; image++) {
    Problem one(kBf16, 1, 67, 2);
    for (int64_t row = 0; row < 67; row++) {
      for (int32_t part = 0; part < 3; part++) {
        for (int32_t head = 0; head < 2; head++) {
          for (int32_t c = 0; c < kDepth; c++) one.at(row, part, head, c) = all.at(image * 67 + row, part, head, c);
        }
      }
    }
    const std::vector<uint16_t> found = one.run(kernel);
    CHECK(std::equal(found.begin(), found.end(), expected.begin() + image * 67 * 2 * kDepth));
  }
#if defined(COMNECK_EMULATION)
  for (uint64_t seed = 2; seed < 5; seed++) {
    emulation::seed(seed);
    CHECK(all.run(kernel) == expected);
  }
#endif
}

void check_refusals() {
  DeviceArray<uint16_t> memory(4096);
  const Side good{memory.data(), 192, COMNECK_BF16};
  const Side out{memory.data() + 2048, 64, COMNECK_BF16};
  CHECK(fused_attention_takes(good, out, 64));
  CHECK(!fused_attention_takes(good, out, 32));
  CHECK(!fused_attention_takes({memory.data() + 4, 192, COMNECK_BF16}, out, 64));
  CHECK(!fused_attention_takes({memory.data(), 196, COMNECK_BF16}, out, 64));
  CHECK(!fused_attention_takes(good, {memory.data(), 64, COMNECK_F16}, 64));
  CHECK(!fused_attention_takes({memory.data(), 192, COMNECK_F32}, {memory.data(), 64, COMNECK_F32}, 64));
  CHECK(fused_attention(good, out, 1, 4, 0, 64, AttentionKernel::kMma, 4, nullptr) == cudaErrorInvalidValue);
  CHECK(fused_attention(good, out, 1, -1, 1, 64, AttentionKernel::kMma, 4, nullptr) == cudaErrorInvalidValue);
  CHECK(fused_attention(good, out, 65536, 1, 1, 64, AttentionKernel::kMma, 4, nullptr) == cudaErrorInvalidValue);
  CHECK(fused_attention(good, out, 0, 4, 1, 64, AttentionKernel::kMma, 4, nullptr) == cudaSuccess);
  CHECK(fused_attention(good, out, 1, 0, 1, 64, AttentionKernel::kMma, 4, nullptr) == cudaSuccess);
}

// However a kernel is divided into blocks.
void check_groups() {
  for (const int32_t tokens : {5, 64, 70, 140, 257}) {
    Problem problem(kF16, 2, tokens, 2);
    problem.fill(14, 1.5f);
    const std::vector<uint16_t> expected = problem.run(AttentionKernel::kWgmma64);
    CHECK(problem.run(AttentionKernel::kWgmma128) == expected);
    CHECK(problem.run(AttentionKernel::kWgmma) == expected);
  }
}

void check(AttentionKernel kernel) {
  check_sizes(kernel, kBf16);
  check_sizes(kernel, kF16);
  check_huge_scores(kernel);
  check_low_scores(kernel, kBf16);
  check_low_scores(kernel, kF16);
  check_not_finite(kernel, kBf16);
  check_not_finite(kernel, kF16);
  check_batches(kernel);
}

}  // namespace

int main() {
  check_refusals();
  check(AttentionKernel::kMma);
  if (!has_wgmma()) {
    std::printf("no sm_90a here: the kernel with wgmma was not run\n");
    return 0;
  }
  check(AttentionKernel::kWgmma64);
  check(AttentionKernel::kWgmma128);
  check_groups();
  return 0;
}
