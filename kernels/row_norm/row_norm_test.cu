// The kernel against f64, at widths around its pieces, with NaNs between rows and nothing behind the last one.
#include "row_norm/row_norm.h"

#include <cmath>
#include <random>

#include "backend/bits.h"
#include "check.h"
#include "device_array.h"

using namespace comneck;
using namespace comneck::cuda;

namespace {

constexpr uint16_t kUntouched = 0xCDCD;

struct Problem {
  int32_t type;
  int64_t rows;
  int32_t channels;
  float epsilon;
  std::vector<float> from, weight, bias;

  Problem(int32_t stored, int64_t row_count, int32_t channel_count, float offset, float spread, float chosen_epsilon = 1e-5f)
      : type(stored), rows(row_count), channels(channel_count), epsilon(chosen_epsilon) {
    std::mt19937 generator(static_cast<uint32_t>(rows * 4099 + channels));
    std::normal_distribution<float> normal;
    from.assign(static_cast<size_t>(rows == 0 ? 0 : (rows - 1) * stride() + 4 + channels), NAN);
    for (int64_t r = 0; r < rows; r++) {
      for (int32_t c = 0; c < channels; c++) at(r, c) = offset + spread * normal(generator);
    }
    for (int32_t c = 0; c < channels; c++) {
      weight.push_back(1.0f + 0.3f * normal(generator));
      bias.push_back(normal(generator));
    }
  }
  int64_t stride() const { return channels + 8; }
  int64_t out_stride() const { return channels + 12; }
  float &at(int64_t row, int32_t c) { return from[static_cast<size_t>(row * stride() + 4 + c)]; }
  float wide(uint16_t x) const { return type == COMNECK_BF16 ? from_bf16(x) : from_f16(x); }

  // [row][channel], without the gaps, which must not have been touched.
  std::vector<uint16_t> run() const {
    DeviceArray<float> device(from), device_weight(weight), device_bias(bias);
    DeviceArray<uint16_t> out(std::vector<uint16_t>(static_cast<size_t>(rows == 0 ? 0 : (rows - 1) * out_stride() + 8 + channels), kUntouched));
    const Side source{device.data() + 4, stride(), COMNECK_F32};
    const Side to{out.data() + 8, out_stride(), type};
    CHECK(row_norm(source, device_weight.data(), device_bias.data(), epsilon, to, rows, channels, nullptr) == cudaSuccess);
    const std::vector<uint16_t> all = out.to_host();
    std::vector<uint16_t> found;
    for (size_t i = 0; i < all.size(); i++) {
      const auto c = static_cast<int64_t>(i) % out_stride() - 8;
      if (c >= 0 && c < channels) {
        found.push_back(all[i]);
      } else {
        CHECK_EQ(all[i], kUntouched);
      }
    }
    return found;
  }

  // A sum of a lane's channels and then of 32 lanes loses at most a bit an addition; the mean's error goes into every difference, theirs into
  // the variance; the result is rounded to its type.
  void check() {
    const std::vector<uint16_t> out = run();
    const double bit = std::ldexp(1.0, -23);
    const double unit = type == COMNECK_BF16 ? std::ldexp(1.0, -8) : std::ldexp(1.0, -11);
    const double additions = channels / 32.0 + 12;
    for (int64_t r = 0; r < rows; r++) {
      double mean = 0.0, sizes = 0.0, variance = 0.0, differences = 0.0;
      for (int32_t c = 0; c < channels; c++) {
        mean += at(r, c) / double{static_cast<double>(channels)};
        sizes += std::fabs(double{at(r, c)}) / channels;
      }
      for (int32_t c = 0; c < channels; c++) {
        variance += (at(r, c) - mean) * (at(r, c) - mean) / channels;
        differences += std::fabs(at(r, c) - mean) / channels;
      }
      const double shift = additions * bit * sizes;
      const double inverse = 1 / std::sqrt(variance + epsilon);
      const double stretch = (2 * differences * shift + shift * shift + additions * bit * variance) / (variance + epsilon) + 4 * bit;
      for (int32_t c = 0; c < channels; c++) {
        const double w = weight[static_cast<size_t>(c)], b = bias[static_cast<size_t>(c)];
        const double normed = (at(r, c) - mean) * inverse;
        const double expected = normed * w + b;
        const double tolerance = unit * std::fabs(expected) + std::fabs(w) * (shift * inverse + std::fabs(normed) * stretch) +
                                 2 * bit * (std::fabs(normed * w) + std::fabs(b)) + 1e-7;
        const double found = wide(out[static_cast<size_t>(r * channels + c)]);
        if (!(std::fabs(found - expected) <= tolerance)) {
          std::fprintf(stderr, "%lld rows of %d: row %lld, channel %d is %.9g instead of %.9g, allowed %.3g\n", static_cast<long long>(rows), channels,
                       static_cast<long long>(r), c, found, expected, tolerance);
          std::exit(1);
        }
      }
    }
  }
};

// What is not finite stays in its row, and a row's bits are the same among others, alone, and in any order of threads.
void check_rows() {
  Problem all(COMNECK_BF16, 9, 260, 0.5f, 2.0f);
  const std::vector<uint16_t> expected = all.run();
  Problem one(COMNECK_BF16, 1, 260, 0.0f, 0.0f);
  one.weight = all.weight;
  one.bias = all.bias;
  for (int32_t c = 0; c < 260; c++) one.at(0, c) = all.at(6, c);
  const std::vector<uint16_t> alone = one.run();
  CHECK(std::equal(alone.begin(), alone.end(), expected.begin() + 6 * 260));
#if defined(COMNECK_EMULATION)
  for (uint64_t seed = 2; seed < 6; seed++) {
    emulation::seed(seed);
    CHECK(all.run() == expected);
  }
#endif
  all.at(3, 259) = NAN;
  all.at(5, 0) = INFINITY;
  const std::vector<uint16_t> found = all.run();
  for (size_t i = 0; i < found.size(); i++) {
    if (i / 260 == 3 || i / 260 == 5) {
      CHECK(std::isnan(all.wide(found[i])));
    } else {
      CHECK_EQ(found[i], expected[i]);
    }
  }
}

void check_refusals() {
  DeviceArray<float> from(64), weight(8);
  DeviceArray<uint16_t> to(64);
  const Side good{from.data(), 8, COMNECK_F32};
  const Side out{to.data(), 8, COMNECK_F16};
  CHECK(row_norm_takes(good, out, 8));
  CHECK(row_norm_takes(good, {to.data() + 4, 8, COMNECK_F16}, 8));
  CHECK(!row_norm_takes(good, out, 6));
  CHECK(!row_norm_takes(good, out, 0));
  CHECK(!row_norm_takes(good, out, 2052));
  CHECK(!row_norm_takes({from.data() + 1, 8, COMNECK_F32}, out, 8));
  CHECK(!row_norm_takes({from.data(), 9, COMNECK_F32}, out, 8));
  CHECK(!row_norm_takes(good, {to.data() + 2, 8, COMNECK_F16}, 8));
  CHECK(!row_norm_takes(good, {to.data(), 10, COMNECK_F16}, 8));
  CHECK(!row_norm_takes(good, good, 8));
  CHECK(!row_norm_takes(out, out, 8));
  CHECK(row_norm(good, weight.data() + 1, weight.data(), 0, out, 1, 4, nullptr) == cudaErrorInvalidValue);
  CHECK(row_norm(good, weight.data(), weight.data() + 1, 0, out, 1, 4, nullptr) == cudaErrorInvalidValue);
  CHECK(row_norm(good, weight.data(), weight.data(), 0, out, -1, 8, nullptr) == cudaErrorInvalidValue);
  CHECK(row_norm(good, weight.data(), weight.data(), 0, out, int64_t{INT32_MAX} * 4 + 1, 8, nullptr) == cudaErrorInvalidValue);
  CHECK(row_norm(good, weight.data(), weight.data(), 0, good, 1, 8, nullptr) == cudaErrorInvalidValue);
  CHECK(row_norm(good, weight.data(), weight.data(), 0, out, 0, 8, nullptr) == cudaSuccess);
}

}  // namespace

int main() {
  for (const int32_t channels : {4, 124, 128, 132, 192, 256, 260, 768, 772, 1024, 1028, 2048}) {
    Problem(COMNECK_BF16, channels % 5 + 1, channels, 0.3f, 1.5f).check();
    Problem(COMNECK_F16, 5 - channels % 5, channels, -2.0f, 0.7f).check();
  }
  Problem(COMNECK_F16, 4, 1024, 300.0f, 1.0f).check();        // a large mean
  Problem(COMNECK_F16, 3, 64, 0.0f, 1e-3f, 1e-5f).check();    // epsilon counts
  Problem(COMNECK_BF16, 2, 192, 7.0f, 0.0f).check();          // no variance at all
  check_rows();
  check_refusals();
  return 0;
}
