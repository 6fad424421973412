// Tensor cores, matrix loads and asynchronous copies against plain loops, and the mistakes with them that the emulation must find.
#include "tensor_core.h"

#include <bit>
#include <cmath>
#include <random>

#include "backend/bits.h"
#include "check.h"
#include "device_array.h"

using namespace comneck;
using namespace comneck::cuda;

namespace {

template <class T>
uint16_t narrow(float x) {
  return T::kType == COMNECK_BF16 ? to_bf16(x) : to_f16(x);
}
template <class T>
float wide(uint16_t x) {
  return T::kType == COMNECK_BF16 ? from_bf16(x) : from_f16(x);
}

// out (16 x 16) = start + a (16 x 16) * b. b lies as [column][k], or, transposed, as [k][column].
template <class T, bool kTransposed>
__global__ void multiply(const uint16_t *a, const uint16_t *b, float start, float *out) {
  COMNECK_SHARED(left, uint16_t[16][24]);  // rows of 48 bytes: aligned, and not the matrix's own pitch
  COMNECK_SHARED(right, uint16_t[16][24]);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) {
    left[i / 16][i % 16] = a[i];
    right[i / 16][i % 16] = b[i];
  }
  __syncwarp();
  uint32_t x[4];
  uint32_t y[4];
  load_matrices(x, &left[lane % 16][lane / 16 * 8]);
  if constexpr (kTransposed) {
    load_matrices<true>(y, &right[lane % 16][lane / 16 * 8]);
  } else {
    load_matrices(y, &right[lane / 16 * 8 + lane % 8][lane / 8 % 2 * 8]);
  }
  for (int n = 0; n < 2; n++) {
    float sum[4] = {start, start, start, start};
    multiply_add<T>(sum, x, y[n * 2], y[n * 2 + 1]);
    for (int i = 0; i < 4; i++) out[(lane / 4 + i / 2 * 8) * 16 + n * 8 + lane % 4 * 2 + i % 2] = sum[i];
  }
}

template <class T, bool kTransposed>
std::vector<float> multiplied(const std::vector<uint16_t> &a, const std::vector<uint16_t> &b, float start) {
  DeviceArray<uint16_t> device_a(a);
  DeviceArray<uint16_t> device_b(b);
  DeviceArray<float> out(256);
  CHECK(launch(multiply<T, kTransposed>, 1, 32, 0, nullptr, device_a.data(), device_b.data(), start, out.data()) == cudaSuccess);
  return out.to_host();
}

template <class T, bool kTransposed>
void check_products() {
  std::mt19937 generator(3);
  // Small integers: every order of additions gives the same, so a wrong place of an element shows.
  std::vector<uint16_t> a(256), b(256);
  for (uint16_t &x : a) x = narrow<T>(static_cast<float>(static_cast<int>(generator() % 33) - 16));
  for (uint16_t &x : b) x = narrow<T>(static_cast<float>(static_cast<int>(generator() % 33) - 16));
  const auto right = [&](size_t k, size_t n) { return wide<T>(b[kTransposed ? k * 16 + n : n * 16 + k]); };
  std::vector<float> out = multiplied<T, kTransposed>(a, b, 5.0f);
  for (size_t m = 0; m < 16; m++) {
    for (size_t n = 0; n < 16; n++) {
      float sum = 5.0f;
      for (size_t k = 0; k < 16; k++) sum += wide<T>(a[m * 16 + k]) * right(k, n);
      CHECK_EQ(out[m * 16 + n], sum);
    }
  }
  // Values of all sizes: 17 additions, each of which may lose a bit of the largest term.
  for (uint16_t &x : a) x = narrow<T>(std::ldexp(static_cast<float>(generator() % 2048) - 1024.0f, static_cast<int>(generator() % 12) - 16));
  for (uint16_t &x : b) x = narrow<T>(std::ldexp(static_cast<float>(generator() % 2048) - 1024.0f, static_cast<int>(generator() % 12) - 16));
  out = multiplied<T, kTransposed>(a, b, -0.75f);
  for (size_t m = 0; m < 16; m++) {
    for (size_t n = 0; n < 16; n++) {
      double sum = -0.75, most = 0.75;
      for (size_t k = 0; k < 16; k++) {
        const double product = double{wide<T>(a[m * 16 + k])} * right(k, n);
        sum += product;
        most += std::fabs(product);
      }
      CHECK(std::fabs(out[m * 16 + n] - sum) <= most * 17 * std::ldexp(1.0, -23));
    }
  }
  // What is not finite stays in its row and column.
  a.assign(256, narrow<T>(1.0f));
  b.assign(256, narrow<T>(2.0f));
  a[3 * 16 + 5] = narrow<T>(INFINITY);
  a[9 * 16 + 1] = narrow<T>(NAN);
  out = multiplied<T, kTransposed>(a, b, 0.0f);
  for (size_t i = 0; i < 256; i++) CHECK(i / 16 == 3 ? out[i] == INFINITY : i / 16 == 9 ? std::isnan(out[i]) : out[i] == 32.0f);
}

// out[t] = 16 bytes of in, the first bytes[t] of them, after as many other groups as there are threads.
template <bool kWaits>
__global__ void copy_pieces(const uint16_t *in, const uint32_t *bytes, uint16_t *out) {
  COMNECK_SHARED(piece, uint16_t[32][8]);
  const unsigned t = threadIdx.x;
  copy_16(piece[t], in + t * 8, bytes[t]);
  commit_copies();
  commit_copies();  // a group of nothing
  if constexpr (kWaits) wait_copies<1>();
  __syncwarp();
  const unsigned other = (t + 1) % 32;
  for (unsigned i = 0; i < 8; i++) out[other * 8 + i] = piece[other][i];
}

std::vector<uint16_t> copied(bool waits, const std::vector<uint16_t> &in, const std::vector<uint32_t> &bytes) {
  DeviceArray<uint16_t> device_in(in);
  DeviceArray<uint32_t> device_bytes(bytes);
  DeviceArray<uint16_t> out(256);
  CHECK(launch(waits ? copy_pieces<true> : copy_pieces<false>, 1, 32, 0, nullptr, device_in.data(), device_bytes.data(), out.data()) ==
        cudaSuccess);
  return out.to_host();
}

void check_copies() {
  std::vector<uint16_t> in(256);
  std::vector<uint32_t> bytes(32);
  for (size_t i = 0; i < 256; i++) in[i] = static_cast<uint16_t>(i + 1);
  for (size_t t = 0; t < 32; t++) bytes[t] = static_cast<uint32_t>(t % 9 * 2);
  std::vector<uint16_t> expected = in;
  for (size_t i = 0; i < 256; i++) {
    if (i % 8 * 2 >= bytes[i / 8]) expected[i] = 0;
  }
  CHECK(copied(true, in, bytes) == expected);
  // The last piece without a byte: its address may lie behind the end, and is not read.
  in.resize(248);
  bytes[31] = 0;
  for (size_t i = 248; i < 256; i++) expected[i] = 0;
  CHECK(copied(true, in, bytes) == expected);
#if defined(COMNECK_EMULATION)
  for (uint64_t seed = 1; seed <= 20; seed++) {
    emulation::seed(seed);
    CHECK(copied(true, in, bytes) == expected);
    CHECK(copied(false, in, bytes) != expected);
  }
#endif
}

template <class T>
__global__ void pack_all(const float *in, int n, uint32_t *out) {
  for (int i = static_cast<int>(threadIdx.x); i < n; i += 32) out[i] = pack_pair<T>(in[i], in[n - 1 - i]);
}
__global__ void powers(const float *in, int n, float *out) {
  for (int i = static_cast<int>(threadIdx.x); i < n; i += 32) out[i] = exp2_fast(in[i]);
}

template <class T>
__global__ void widen_all(float *out) {
  for (unsigned i = threadIdx.x; i < 0x10000; i += 32) out[i] = widen<T>(static_cast<uint16_t>(i));
}

template <class T>
void check_packing(const std::vector<float> &values) {
  DeviceArray<float> in(values);
  DeviceArray<uint32_t> out(values.size());
  CHECK(launch(pack_all<T>, 1, 32, 0, nullptr, in.data(), static_cast<int>(values.size()), out.data()) == cudaSuccess);
  const std::vector<uint32_t> pairs = out.to_host();
  for (size_t i = 0; i < values.size(); i++) {
    for (int which = 0; which < 2; which++) {
      const float x = which == 0 ? values[i] : values[values.size() - 1 - i];
      const auto half = static_cast<uint16_t>(pairs[i] >> (16 * which));
      CHECK(std::isnan(x) ? std::isnan(wide<T>(half)) : half == narrow<T>(x));
    }
  }
}

template <class T>
void check_widening() {
  DeviceArray<float> out(0x10000);
  CHECK(launch(widen_all<T>, 1, 32, 0, nullptr, out.data()) == cudaSuccess);
  const std::vector<float> all = out.to_host();
  for (uint32_t i = 0; i < 0x10000; i++) {
    const float x = wide<T>(static_cast<uint16_t>(i));
    CHECK(std::isnan(x) ? std::isnan(all[i]) : std::bit_cast<uint32_t>(x) == std::bit_cast<uint32_t>(all[i]));
  }
}

// f32 to f16 and back: all 65,536 values, and the halves between neighbours, which go to the even one.
void check_f16() {
  for (uint32_t half = 0; half < 0x10000; half++) {
    const float x = from_f16(static_cast<uint16_t>(half));
    if (std::isnan(x)) {
      CHECK(std::isnan(from_f16(to_f16(x))));
      continue;
    }
    CHECK_EQ(to_f16(x), half);
    if ((half & 0x7FFFu) >= 0x7BFFu) continue;
    const float next = from_f16(static_cast<uint16_t>(half + 1));
    const float middle = 0.5f * (x + next);
    CHECK_EQ(to_f16(middle), half + (half & 1u));
    CHECK_EQ(to_f16(std::nextafter(middle, x)), half);
    CHECK_EQ(to_f16(std::nextafter(middle, next)), half + 1);
  }
  CHECK_EQ(to_f16(65519.996f), 0x7BFF);
  CHECK_EQ(to_f16(65520.0f), 0x7C00);
  CHECK_EQ(to_f16(-1e30f), 0xFC00);
  CHECK_EQ(to_f16(1e-30f), 0);
}

void check_values() {
  std::vector<float> values = {0.0f, -0.0f, 1.0f, -1.0f, INFINITY, -INFINITY, NAN, 65519.0f, 65520.0f, 6e-8f, -3e-8f, 1e-40f};
  std::mt19937 generator(11);
  for (int i = 0; i < 500; i++) values.push_back(std::ldexp(static_cast<float>(generator()) - 2e9f, static_cast<int>(generator() % 60) - 60));
  check_packing<Bf16>(values);
  check_packing<F16>(values);
  std::vector<float> exponents = {0.0f, -1.0f, 10.0f, -125.5f, -200.0f, -INFINITY, NAN, INFINITY};
  for (int i = 0; i < 500; i++) exponents.push_back(static_cast<float>(generator() % 100000) * -1e-3f);
  DeviceArray<float> in(exponents);
  DeviceArray<float> out(exponents.size());
  CHECK(launch(powers, 1, 32, 0, nullptr, in.data(), static_cast<int>(exponents.size()), out.data()) == cudaSuccess);
  const std::vector<float> powers = out.to_host();
  for (size_t i = 0; i < exponents.size(); i++) {
    const double exact = std::exp2(double{exponents[i]});
    CHECK(std::isnan(exact) ? std::isnan(powers[i])
                            : powers[i] == exact || std::fabs(powers[i] - exact) <= std::fabs(exact) * std::ldexp(1.0, -22) + 1.2e-38);
  }
}

#if defined(COMNECK_EMULATION)

__global__ void lane_missing(float *out) {
  float sum[4] = {};
  const uint32_t a[4] = {};
  if (threadIdx.x != 7) multiply_add<Bf16>(sum, a, 0, 0);
  out[threadIdx.x] = sum[0];
}
__global__ void two_places(float *out) {
  float sum[4] = {};
  const uint32_t a[4] = {};
  if (threadIdx.x < 16) {
    multiply_add<Bf16>(sum, a, 0, 0);
  } else {
    multiply_add<Bf16>(sum, a, 0, 0);
  }
  out[threadIdx.x] = sum[0];
}
__global__ void product_and_vote(float *out) {
  float sum[4] = {};
  const uint32_t a[4] = {};
  if (threadIdx.x == 0) {
    __syncwarp();
  } else {
    multiply_add<F16>(sum, a, 0, 0);
  }
  out[threadIdx.x] = sum[0];
}
__global__ void odd_address(float *out) {
  COMNECK_SHARED(rows, uint16_t[32][9]);
  uint32_t x[4];
  load_matrices(x, rows[threadIdx.x % 31]);
  out[threadIdx.x] = static_cast<float>(x[0]);
}
__global__ void behind_the_end(float *out) {
  COMNECK_SHARED(rows, uint16_t[31][8]);
  uint32_t x[4];
  load_matrices(x, &rows[0][0] + threadIdx.x * 8);
  out[threadIdx.x] = static_cast<float>(x[0]);
}
__global__ void copy_to_global(float *out) {
  copy_16(out, out + 16, 16);
}
__global__ void copy_from_odd(float *out) {
  COMNECK_SHARED(rows, uint16_t[32][8]);
  copy_16(rows[threadIdx.x], out + threadIdx.x, 16);
}

void expect_report(const char *what, void (*kernel)(float *), unsigned threads) {
  DeviceArray<float> out(64);
  (void)emulation::take_report();
  CHECK(launch(kernel, 1, threads, 0, nullptr, out.data()) == cudaErrorLaunchFailure);
  const char *report = emulation::take_report();
  if (std::strstr(report, what) == nullptr) std::fprintf(stderr, "expected '%s', reported '%s'\n", what, report);
  CHECK(std::strstr(report, what) != nullptr);
  (void)cudaGetLastError();
}

void check_reports() {
  emulation::print_reports(false);
  expect_report("names a lane that has ended", lane_missing, 32);
  expect_report("a part of one", lane_missing, 7);
  expect_report("different operations", two_places, 32);
  expect_report("different operations", product_and_vote, 32);
  expect_report("a misaligned address", odd_address, 32);
  expect_report("not in shared memory", behind_the_end, 32);
  expect_report("not in shared memory", copy_to_global, 1);
  expect_report("a misaligned address", copy_from_odd, 2);
}

#else
void check_reports() {}
#endif

}  // namespace

int main() {
  check_f16();
  check_widening<Bf16>();
  check_widening<F16>();
  check_values();
  check_products<Bf16, false>();
  check_products<Bf16, true>();
  check_products<F16, false>();
  check_products<F16, true>();
  check_copies();
  check_reports();
  return 0;
}
