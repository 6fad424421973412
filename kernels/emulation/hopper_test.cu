// TMA, mbarriers and wgmma against plain loops, and the mistakes with them that the emulation must find. On a device of sm_90a it shows that the
// fragments, swizzles and descriptors are what hopper.h says.
#include "hopper.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "backend/bits.h"
#include "check.h"
#include "device_array.h"

using namespace comneck;
using namespace comneck::cuda;

namespace {

using Box = EightRows[8];

template <class T>
uint16_t narrow(float x) {
  return T::kType == COMNECK_BF16 ? to_bf16(x) : to_f16(x);
}
template <class T>
float wide(uint16_t x) {
  return T::kType == COMNECK_BF16 ? from_bf16(x) : from_f16(x);
}

struct BoxMemory {
  Box box[2];
  Barrier came[2];
};

// Element [row][channel] of a box.
[[maybe_unused]] __device__ inline uint16_t element_of(const Box &box, int row, int channel) {
  return box[row / 8].element[row % 8][((channel / 8) ^ (row % 8)) * 8 + channel % 8];
}

// Three boxes one after the other through two buffers, each of which is used in a second phase.
__global__ void load_boxes(const __grid_constant__ TensorMap map, const int32_t *places, uint16_t *out) {
#if defined(COMNECK_SM90A_BODY)
  COMNECK_DYNAMIC_SHARED(BoxMemory, memory);
  const auto load = [&](int i) {
    expect_bytes(&memory->came[i % 2], sizeof(Box));
    load_box(map, memory->box[i % 2], &memory->came[i % 2], places[i * 3], places[i * 3 + 1], places[i * 3 + 2]);
  };
  if (threadIdx.x == 0) {
    init_barrier(&memory->came[0], 1);
    init_barrier(&memory->came[1], 1);
    publish_barriers();
    load(0);
    load(1);
  }
  __syncthreads();
  for (int i = 0; i < 3; i++) {
    wait_barrier(&memory->came[i % 2], static_cast<uint32_t>(i / 2 % 2));
    for (int e = static_cast<int>(threadIdx.x); e < 64 * 64; e += static_cast<int>(blockDim.x)) {
      out[i * 64 * 64 + e] = element_of(memory->box[i % 2], e / 64, e % 64);
    }
    __syncthreads();
    if (threadIdx.x == 0 && i == 0) load(2);
  }
#else
  __trap();
#endif
}

void check_boxes() {
  constexpr int64_t kImages = 2, kTokens = 70, kChannels = 192, kStride = 200;
  std::vector<uint16_t> in(static_cast<size_t>((kImages * kTokens - 1) * kStride + kChannels));
  for (size_t i = 0; i < in.size(); i++) in[i] = static_cast<uint16_t>(i * 7919 + 1);
  // At the start; at an image's end, beyond which another one lies; where there is nothing; in the middle of the last one.
  const std::vector<int32_t> places = {0, 0, 0, 64, 40, 0, 128, 70, 1, 128, 69, 1, 72, 3, 1, 0, 64, 1};
  DeviceArray<uint16_t> device(in);
  TensorMap map;
  CHECK(map_tokens(&map, device.data(), COMNECK_BF16, kImages, kTokens, kChannels, kStride, 64) == cudaSuccess);
  CHECK(map_tokens(&map, device.data() + 4, COMNECK_BF16, kImages, kTokens, kChannels, kStride, 64) == cudaErrorInvalidValue);
  CHECK(map_tokens(&map, device.data(), COMNECK_BF16, kImages, kTokens, kChannels, kStride + 1, 64) == cudaErrorInvalidValue);
  CHECK(map_tokens(&map, device.data(), COMNECK_BF16, kImages, kTokens, kChannels, kStride, 64) == cudaSuccess);
  for (size_t first = 0; first < places.size(); first += 9) {
    DeviceArray<int32_t> at(std::vector<int32_t>(places.begin() + static_cast<std::ptrdiff_t>(first), places.begin() + static_cast<std::ptrdiff_t>(first + 9)));
    DeviceArray<uint16_t> out(3 * 64 * 64);
    CHECK(allow_shared(load_boxes, sizeof(BoxMemory)) == cudaSuccess);
    CHECK(launch(load_boxes, 1, 128, sizeof(BoxMemory), nullptr, map, at.data(), out.data()) == cudaSuccess);
    const std::vector<uint16_t> found = out.to_host();
    for (size_t i = 0; i < 3; i++) {
      for (int64_t row = 0; row < 64; row++) {
        for (int64_t c = 0; c < 64; c++) {
          const int64_t channel = places[first + i * 3] + c, token = places[first + i * 3 + 1] + row, image = places[first + i * 3 + 2];
          const bool exists = channel < kChannels && token < kTokens;
          const uint16_t expected = exists ? in[static_cast<size_t>((image * kTokens + token) * kStride + channel)] : uint16_t{0};
          CHECK_EQ(found[i * 64 * 64 + static_cast<size_t>(row * 64 + c)], expected);
        }
      }
    }
  }
}

// out (64 x kColumns) = start + a (64 x 64) * b, b (64 x 64) being [column][k], or, transposed, [k][column].
template <class T, int kColumns, bool kTransposed>
__global__ void multiply(const uint16_t *a, const __grid_constant__ TensorMap b, int32_t accumulates, float start, float *out) {
#if defined(COMNECK_SM90A_BODY)
  COMNECK_DYNAMIC_SHARED(BoxMemory, memory);
  if (threadIdx.x == 0) {
    init_barrier(&memory->came[0], 1);
    publish_barriers();
    expect_bytes(&memory->came[0], sizeof(Box));
    load_box(b, memory->box[0], &memory->came[0], 0, 0, 0);
  }
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int first = static_cast<int>(threadIdx.x / 32) * 16;
  uint32_t x[4][4];
  float sum[8][4];
  COMNECK_UNROLL
  for (int k = 0; k < 4; k++) {
    COMNECK_UNROLL
    for (int i = 0; i < 4; i++) {
      const uint16_t *pair = a + (first + lane / 4 + i % 2 * 8) * 64 + k * 16 + lane % 4 * 2 + i / 2 * 8;
      x[k][i] = uint32_t{pair[0]} | uint32_t{pair[1]} << 16;
    }
  }
  COMNECK_UNROLL
  for (int j = 0; j < 8; j++) {
    COMNECK_UNROLL
    for (int i = 0; i < 4; i++) sum[j][i] = start;
  }
  wait_barrier(&memory->came[0], 0);
  pin(sum);
  order_products();
  COMNECK_UNROLL
  for (int k = 0; k < 4; k++) {
    const void *at = kTransposed ? static_cast<const void *>(&memory->box[0][k * 2]) : &memory->box[0][0].element[0][k * 16];
    multiply_add_group<T, kColumns, kTransposed>(sum, x[k], at, k > 0 || accumulates != 0);
  }
  commit_products();
  wait_products<0>();
  pin(sum);
  COMNECK_UNROLL
  for (int j = 0; j < kColumns / 8; j++) {
    COMNECK_UNROLL
    for (int i = 0; i < 4; i++) out[(first + lane / 4 + i / 2 * 8) * 64 + j * 8 + lane % 4 * 2 + i % 2] = sum[j][i];
  }
#else
  __trap();
#endif
}

// Small integers: every order of additions gives the same, so a wrong place of an element shows. Then values of all sizes.
template <class T, int kColumns, bool kTransposed>
void check_products() {
  std::mt19937 generator(3);
  for (const bool integers : {true, false}) {
    std::vector<uint16_t> a(64 * 64), b(64 * 64);
    for (std::vector<uint16_t> *matrix : {&a, &b}) {
      for (uint16_t &x : *matrix) {
        x = narrow<T>(integers ? static_cast<float>(static_cast<int>(generator() % 33) - 16)
                               : std::ldexp(static_cast<float>(generator() % 2048) - 1024.0f, static_cast<int>(generator() % 12) - 16));
      }
    }
    DeviceArray<uint16_t> device_a(a), device_b(b);
    TensorMap map;
    CHECK(map_tokens(&map, device_b.data(), T::kType, 1, 64, 64, 64, 64) == cudaSuccess);
    CHECK(allow_shared(multiply<T, kColumns, kTransposed>, sizeof(BoxMemory)) == cudaSuccess);
    for (const int32_t accumulates : {0, 1}) {
      DeviceArray<float> out(64 * 64);
      CHECK(launch(multiply<T, kColumns, kTransposed>, 1, 128, sizeof(BoxMemory), nullptr, device_a.data(), map, accumulates, 5.0f, out.data()) ==
            cudaSuccess);
      const std::vector<float> found = out.to_host();
      for (size_t m = 0; m < 64; m++) {
        for (size_t n = 0; n < kColumns; n++) {
          double sum = accumulates != 0 ? 5.0 : 0.0, sizes = 5.0;
          for (size_t k = 0; k < 64; k++) {
            const double product = double{wide<T>(a[m * 64 + k])} * wide<T>(b[kTransposed ? k * 64 + n : n * 64 + k]);
            sum += product;
            sizes += std::fabs(product);
          }
          CHECK(std::fabs(found[m * 64 + n] - sum) <= (integers ? 0.0 : sizes * 65 * std::ldexp(1.0, -23)));
        }
      }
    }
  }
}

template <int kColumns>
struct TilesMemory {
  EightRows a[8];
  EightRows b[kColumns / 8];
  Barrier came;
};

// out (64 x kColumns) = start + a (64 x 64) * b, both from shared memory, b (kColumns x 64) being [column][k].
template <class T, int kColumns>
__global__ void multiply_tiles(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, int32_t accumulates, float start,
                               float *out) {
#if defined(COMNECK_SM90A_BODY)
  COMNECK_DYNAMIC_SHARED(TilesMemory<kColumns>, memory);
  if (threadIdx.x == 0) {
    init_barrier(&memory->came, 2);
    publish_barriers();
    expect_bytes(&memory->came, sizeof(memory->a) + sizeof(memory->b));
    load_box(a, memory->a, &memory->came, 0, 0, 0);
    load_box(b, memory->b, &memory->came, 0, 0, 0);
  }
  __syncthreads();
  if (threadIdx.x == 37) arrive(&memory->came);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int first = static_cast<int>(threadIdx.x / 32) * 16;
  float sum[kColumns / 8][4];
  COMNECK_UNROLL
  for (int j = 0; j < kColumns / 8; j++) {
    COMNECK_UNROLL
    for (int i = 0; i < 4; i++) sum[j][i] = start;
  }
  wait_barrier(&memory->came, 0);
  pin(sum);
  order_products();
  COMNECK_UNROLL
  for (int k = 0; k < 4; k++) {
    multiply_add_tiles<T, kColumns>(sum, &memory->a[0].element[0][k * 16], &memory->b[0].element[0][k * 16], k > 0 || accumulates != 0);
  }
  commit_products();
  wait_products<0>();
  pin(sum);
  COMNECK_UNROLL
  for (int j = 0; j < kColumns / 8; j++) {
    COMNECK_UNROLL
    for (int i = 0; i < 4; i++) out[(first + lane / 4 + i / 2 * 8) * kColumns + j * 8 + lane % 4 * 2 + i % 2] = sum[j][i];
  }
#else
  __trap();
#endif
}

template <class T, int kColumns>
void check_tiles() {
  std::mt19937 generator(5);
  std::vector<uint16_t> a(64 * 64), b(kColumns * 64);
  for (std::vector<uint16_t> *matrix : {&a, &b}) {
    for (uint16_t &x : *matrix) x = narrow<T>(static_cast<float>(static_cast<int>(generator() % 33) - 16));
  }
  DeviceArray<uint16_t> device_a(a), device_b(b);
  TensorMap map_a, map_b;
  CHECK(map_tokens(&map_a, device_a.data(), T::kType, 1, 64, 64, 64, 64) == cudaSuccess);
  CHECK(map_tokens(&map_b, device_b.data(), T::kType, 1, kColumns, 64, 64, kColumns) == cudaSuccess);
  CHECK(allow_shared(multiply_tiles<T, kColumns>, sizeof(TilesMemory<kColumns>)) == cudaSuccess);
  for (const int32_t accumulates : {0, 1}) {
    DeviceArray<float> out(64 * kColumns);
    CHECK(launch(multiply_tiles<T, kColumns>, 1, 128, sizeof(TilesMemory<kColumns>), nullptr, map_a, map_b, accumulates, 5.0f, out.data()) ==
          cudaSuccess);
    const std::vector<float> found = out.to_host();
    for (size_t m = 0; m < 64; m++) {
      for (size_t n = 0; n < kColumns; n++) {
        double sum = accumulates != 0 ? 5.0 : 0.0;
        for (size_t k = 0; k < 64; k++) sum += double{wide<T>(a[m * 64 + k])} * wide<T>(b[n * 64 + k]);
        CHECK_EQ(found[m * kColumns + n], sum);
      }
    }
  }
}

template <class T>
void check_type() {
  check_tiles<T, 64>();
  check_tiles<T, 128>();
  check_products<T, 64, false>();
  check_products<T, 16, false>();
  check_products<T, 64, true>();
}

#if defined(COMNECK_EMULATION)

enum class Mistake {
  kNone,
  kNoWait,         // for the products
  kWaitsTooLate,   // for the first of two groups only
  kNoOrder,
  kOneWarpLess,
  kOneGroupLess,   // of warps: that is allowed
  kOtherMatrix,    // in one lane
  kMisaligned,
  kNotPublished,
  kNotInitialised,
  kNoExpectation,  // of bytes: the first phase never ends
  kNoBarrier,      // not waited for
  kEarlyEnd,       // of the block
  kWritesOperand,  // while products run
  kBeyond          // the shared memory
};

// Two sums of b (the box) by a identity: the box's columns.
__global__ void mistaken(const __grid_constant__ TensorMap map, Mistake mistake, float *out) {
  COMNECK_DYNAMIC_SHARED(BoxMemory, memory);
  if (threadIdx.x == 0) {
    if (mistake != Mistake::kNotInitialised) init_barrier(&memory->came[0], 1);
    if (mistake != Mistake::kNotPublished) publish_barriers();
    if (mistake != Mistake::kNoExpectation) expect_bytes(&memory->came[0], sizeof(Box));
    load_box(map, mistake == Mistake::kBeyond ? static_cast<void *>(&memory->box[1][2]) : memory->box[0], &memory->came[0], 0, 0, 0);
    if (mistake == Mistake::kEarlyEnd) return;
  }
  if (mistake == Mistake::kEarlyEnd) return;
  __syncthreads();
  if (mistake != Mistake::kNoBarrier) wait_barrier(&memory->came[0], 0);
  const unsigned warp = threadIdx.x / 32;
  if (mistake == Mistake::kOneWarpLess && warp == 2) return;
  if (mistake == Mistake::kOneGroupLess && warp >= 4) return;
  uint32_t ones[4] = {0x3F803F80u, 0x3F803F80u, 0x3F803F80u, 0x3F803F80u};
  float sum[8][4] = {};
  float other[8][4] = {};
  if (mistake != Mistake::kNoOrder) order_products();
  const void *at = memory->box[0];
  if (mistake == Mistake::kOtherMatrix && threadIdx.x == 9) at = memory->box[0][0].element[0] + 16;
  if (mistake == Mistake::kMisaligned) at = memory->box[0][0].element[1];
  multiply_add_group<Bf16, 64, false>(sum, ones, at, false);
  commit_products();
  multiply_add_group<Bf16, 64, false>(other, ones, memory->box[0], false);
  commit_products();
  if (mistake == Mistake::kWritesOperand) ones[1] = 0;
  if (mistake == Mistake::kWaitsTooLate) {
    wait_products<1>();
  } else if (mistake != Mistake::kNoWait) {
    wait_products<0>();
  }
  for (int i = 0; i < 32; i++) out[threadIdx.x * 32 + static_cast<unsigned>(i)] = sum[i / 4][i % 4] + other[i / 4][i % 4];
  if (mistake == Mistake::kWaitsTooLate) wait_products<0>();
}

void check_mistakes() {
  emulation::print_reports(false);
  std::vector<uint16_t> ones(64 * 64, 0x3F80);
  DeviceArray<uint16_t> device(ones);
  TensorMap map;
  CHECK(map_tokens(&map, device.data(), COMNECK_BF16, 1, 64, 64, 64, 64) == cudaSuccess);
  // How many of 20 seeds come to the right result; the last report.
  const auto right = [&](Mistake mistake, unsigned threads, std::string *report) {
    int count = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
      emulation::seed(seed);
      DeviceArray<float> out(threads * 32);
      (void)emulation::take_report();
      const cudaError_t error = launch(mistaken, 1, threads, sizeof(BoxMemory), nullptr, map, mistake, out.data());
      const std::string said = emulation::take_report();
      if (!said.empty()) *report = said;
      CHECK((error == cudaSuccess) == said.empty());
      (void)cudaGetLastError();
      const std::vector<float> all = out.to_host();
      const size_t values = mistake == Mistake::kOneGroupLess ? 128 * 32 : all.size();
      if (error == cudaSuccess && std::all_of(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(values), [](float x) { return x == 32.0f; })) count++;
    }
    return count;
  };
  const auto reported = [&](Mistake mistake, unsigned threads, const char *what) {
    std::string report;
    CHECK(right(mistake, threads, &report) < 20);
    if (report.find(what) == std::string::npos) std::fprintf(stderr, "mistake %d: expected '%s', reported '%s'\n", int(mistake), what, report.c_str());
    CHECK(report.find(what) != std::string::npos);
  };
  std::string report;
  CHECK_EQ(right(Mistake::kNone, 128, &report), 20);
  CHECK_EQ(right(Mistake::kOneGroupLess, 256, &report), 20);
  CHECK(report.empty());
  CHECK(right(Mistake::kWaitsTooLate, 128, &report) < 20);
  CHECK(right(Mistake::kWritesOperand, 128, &report) < 20);
  CHECK(right(Mistake::kNoBarrier, 128, &report) < 20);
  reported(Mistake::kNoWait, 128, "asynchronous products are under way");
  reported(Mistake::kNoOrder, 128, "not ordered");
  reported(Mistake::kOneWarpLess, 128, "different products");
  reported(Mistake::kNone, 96, "that has not four");
  reported(Mistake::kOtherMatrix, 128, "different matrices");
  reported(Mistake::kMisaligned, 128, "a misaligned address");
  reported(Mistake::kNotPublished, 128, "not published");
  reported(Mistake::kNotInitialised, 128, "not initialised");
  reported(Mistake::kNoExpectation, 128, "wait for ever");
  reported(Mistake::kEarlyEnd, 128, "asynchronous copies are under way");
  reported(Mistake::kBeyond, 128, "not in shared memory");
}

#else
void check_mistakes() {}
#endif

}  // namespace

int main() {
  if (!has_wgmma()) {
    std::printf("no sm_90a here: nothing was run\n");
    return 0;
  }
  check_boxes();
  check_type<Bf16>();
  check_type<F16>();
  check_mistakes();
  return 0;
}
