// Canonical functions: the same bits from every instruction set and from Java, and close to the mathematical value.
#include <algorithm>
#include <bit>
#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "check.h"
#include "vision/functions.h"

using comneck::FunctionCode;

namespace {

struct Case {
  FunctionCode function;
  const char *name;
  uint64_t golden;  // FNV-1a over the results' words; CanonicalMathTest.java holds the same numbers
};

constexpr Case kCases[] = {
    {FunctionCode::EXP, "exp", 0xF18A58F4636B8988},
    {FunctionCode::SIGMOID, "sigmoid", 0x3BE5FE39C9661D74},
    {FunctionCode::QUICK_GELU, "quickGelu", 0x66F24C0B4890885E},
    {FunctionCode::ERF, "erf", 0x4741F87022E38115},
    {FunctionCode::GELU, "gelu", 0x9B6BC6F8F6A794EB},
    {FunctionCode::RELU, "relu", 0x8DDB4ED245975523},
};

// Every 997th bit pattern, then the neighbourhood of every bound that the functions have.
std::vector<float> inputs() {
  std::vector<float> x;
  for (uint64_t bits = 0; bits <= 0xFFFFFFFFu; bits += 997) {
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  const float centres[] = {0.0f, 1e-38f, 1.0f, 51.0f, 52.0f, 59.0f, 87.3f, 88.72f, 89.0f, 100.0f, 13.0f, INFINITY};
  for (float centre : centres) {
    for (int step = -40; step <= 40; step++) {
      uint32_t bits = std::bit_cast<uint32_t>(centre) + static_cast<uint32_t>(step);
      x.push_back(std::bit_cast<float>(bits));
      x.push_back(std::bit_cast<float>(bits ^ 0x80000000u));
    }
  }
  return x;
}

uint64_t checksum(const std::vector<float> &y) {
  uint64_t h = 0xCBF29CE484222325u;
  for (float v : y) {
    h = (h ^ std::bit_cast<uint32_t>(v)) * 0x100000001B3u;
  }
  return h;
}

void same_bits(const char *what, const std::vector<float> &x, const std::vector<float> &expected,
               const std::vector<float> &got) {
  for (size_t i = 0; i < x.size(); i++) {
    uint32_t a = std::bit_cast<uint32_t>(expected[i]);
    uint32_t b = std::bit_cast<uint32_t>(got[i]);
    if (a != b) {
      std::fprintf(stderr, "%s(%.9g, bits %08" PRIx32 "): %08" PRIx32 ", portable %08" PRIx32 "\n", what,
                   static_cast<double>(x[i]), std::bit_cast<uint32_t>(x[i]), b, a);
      std::exit(1);
    }
  }
}

// Largest error over a range, against double precision.
template <class Exact>
void accurate(const char *name, FunctionCode function, double low, double high, double relative, double absolute,
              Exact exact) {
  std::vector<float> x, y(200001);
  for (int i = 0; i <= 200000; i++) {
    x.push_back(static_cast<float>(low + (high - low) * i / 200000));
  }
  comneck::apply_function_portable(function, x.data(), y.data(), static_cast<int64_t>(x.size()));
  double worst = 0;
  for (size_t i = 0; i < x.size(); i++) {
    double e = exact(static_cast<double>(x[i]));
    double error = std::fabs(static_cast<double>(y[i]) - e) / (relative * std::fabs(e) + absolute);
    if (!(error <= 1)) {
      std::fprintf(stderr, "%s(%.9g) is %.9g, should be %.17g\n", name, static_cast<double>(x[i]),
                   static_cast<double>(y[i]), e);
      std::exit(1);
    }
    worst = std::max(worst, error);
  }
  std::printf("%-9s on [%g, %g]: %.2f of the allowed error\n", name, low, high, worst);
}

}  // namespace

int main() {
  std::vector<float> x = inputs();
  int64_t n = static_cast<int64_t>(x.size());
  bool damaged = false;
  for (const Case &c : kCases) {
    std::vector<float> portable(x.size()), other(x.size());
    comneck::apply_function_portable(c.function, x.data(), portable.data(), n);
    for (float v : portable) {
      CHECK(v == v || std::bit_cast<uint32_t>(v) == 0x7FC00000u);
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      comneck::apply_function_avx2(c.function, x.data(), other.data(), n);
      same_bits(c.name, x, portable, other);
    } else {
      std::printf("AVX2 absent: skipped\n");
    }
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      std::fill(other.begin(), other.end(), 0.0f);
      comneck::apply_function_avx512(c.function, x.data(), other.data(), n);
      same_bits(c.name, x, portable, other);
    } else {
      std::printf("AVX-512 absent: skipped\n");
    }
    uint64_t sum = checksum(portable);
    if (sum != c.golden) {
      std::fprintf(stderr, "checksum of %s is 0x%016" PRIX64 ", not 0x%016" PRIX64 "\n", c.name, sum, c.golden);
      damaged = true;
    }
  }
  CHECK(!damaged);

  auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  accurate("exp", FunctionCode::EXP, -87.3, 88.72, 1.2e-7, 0, [](double v) { return std::exp(v); });
  accurate("sigmoid", FunctionCode::SIGMOID, -80, 80, 3e-7, 0, sigmoid);
  accurate("quickGelu", FunctionCode::QUICK_GELU, -10, 10, 2e-6, 1e-37,
           [&](double v) { return v * sigmoid(1.702 * v); });
  accurate("erf", FunctionCode::ERF, -10, 10, 0, 4e-7, [](double v) { return std::erf(v); });
  accurate("gelu", FunctionCode::GELU, -5, 8, 1e-6, 1e-37,
           [](double v) { return v / 2 * std::erfc(-v / std::sqrt(2.0)); });
  accurate("gelu", FunctionCode::GELU, -12, 12, 8e-6, 1e-37,
           [](double v) { return v / 2 * std::erfc(-v / std::sqrt(2.0)); });
  return 0;
}
