// The emulation itself: what it must compute, and the mistakes that it must find.
#include "check.h"
#include "device_array.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

using namespace comneck::cuda;

namespace {

// out[g] = sum of the block's in, by a tree in shared memory. kBarriers: whether the tree has the barriers that it needs.
template <bool kBarriers>
__global__ void tree_sum(const int *in, int n, int *out) {
  COMNECK_SHARED(part, unsigned[256]);
  const unsigned t = threadIdx.x;
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + t;
  part[t] = i < n ? static_cast<unsigned>(in[i]) : 0;
  if constexpr (kBarriers) __syncthreads();
  for (unsigned step = blockDim.x / 2; step > 0; step /= 2) {
    if (t < step) part[t] += part[t + step];
    if constexpr (kBarriers) __syncthreads();
  }
  if (t == 0) out[blockIdx.x] = static_cast<int>(part[0]);
}

// The same within a warp, through memory: without __syncwarp it is wrong too.
template <bool kBarriers>
__global__ void rotate(const int *in, int *out) {
  COMNECK_DYNAMIC_SHARED(int, part);
  const unsigned t = threadIdx.x;
  part[t] = in[t];
  if constexpr (kBarriers) __syncwarp();
  out[t] = part[(t + 1) % 32];
}

// Each warp sums what the other warps wrote, eight votes later: votes hold a warp together, not the block.
template <bool kBarriers>
__global__ void across_warps(int *out) {
  COMNECK_SHARED(part, int[128]);
  const unsigned t = threadIdx.x;
  part[t] = 1;
  for (int i = 0; i < 8; i++) __syncwarp();
  if constexpr (kBarriers) __syncthreads();
  out[t] = part[(t + 32) % 128];
}

// Votes and shuffles; out has 8 values a thread.
__global__ void warp_operations(int *out) {
  const int t = static_cast<int>(threadIdx.x);
  const int lane = t % 32;
  int *mine = out + t * 8;
  mine[0] = static_cast<int>(__ballot_sync(0xFFFFFFFFu, lane % 3 == 0));
  mine[1] = __shfl_sync(0xFFFFFFFFu, t, 5);
  mine[2] = __shfl_sync(0xFFFFFFFFu, t, 5, 8);
  mine[3] = __shfl_xor_sync(0xFFFFFFFFu, t, 1);
  mine[4] = __shfl_up_sync(0xFFFFFFFFu, t, 1, 8);
  mine[5] = __shfl_down_sync(0xFFFFFFFFu, t, 3);
  mine[6] = static_cast<int>(__reduce_max_sync(0xFFFFFFFFu, static_cast<unsigned>((t * 7) % 32)));
  const unsigned half = lane < 16 ? 0x0000FFFFu : 0xFFFF0000u;
  mine[7] = static_cast<int>(__reduce_add_sync(half, 1u << (lane / 16)));
}

__global__ void block_votes(int *out) {
  const int t = static_cast<int>(threadIdx.x);
  const int count = __syncthreads_count(t % 5 == 0);
  const int all = __syncthreads_and(t < 1000);
  const int any = __syncthreads_or(t == 77);
  atomicAdd(out, count * 4 + all * 2 + any);
}

__global__ void divergent_barrier(int *out) {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();  // another line
  }
  out[threadIdx.x] = 1;
}

__global__ void early_exit(int *out) {
  if (threadIdx.x == 3) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}

__global__ void foreign_lane(int *out) {
  const unsigned half = threadIdx.x < 16 ? 0x0000FFFFu : 0xFFFF0000u;
  out[threadIdx.x] = __shfl_sync(half, 1, 20);
}

__global__ void missing_lane(int *out) {
  if (threadIdx.x < 31) out[threadIdx.x] = static_cast<int>(__ballot_sync(0xFFFFFFFFu, 1));
}

__global__ void barrier_and_vote(int *out) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    out[0] = __any_sync(0xFFFFFFFFu, threadIdx.x < 40);
    __syncwarp(0x1u << (threadIdx.x % 32));
  }
}

#if defined(__SANITIZE_ADDRESS__)
// Whether the sanitizer would stop an access right behind each kind of shared memory, and one at its last element.
__global__ void shared_ends(int *out) {
  COMNECK_SHARED(part, int[10]);
  COMNECK_DYNAMIC_SHARED(int, dynamic);
  out[0] = __asan_address_is_poisoned(part + 10);
  out[1] = __asan_address_is_poisoned(part + 9);
  out[2] = __asan_address_is_poisoned(dynamic + 7);
  out[3] = __asan_address_is_poisoned(dynamic + 6);
  out[4] = __asan_address_is_poisoned(out + 5);
}

void check_bounds() {
  DeviceArray<int> out(5);
  CHECK(launch(shared_ends, 1, 1, 28, nullptr, out.data()) == cudaSuccess);
  CHECK(out.to_host() == (std::vector<int>{1, 0, 1, 0, 1}));
}
#else
void check_bounds() {}
#endif

template <class Kernel, class... Arguments>
void expect_report(const char *what, Kernel kernel, unsigned threads, Arguments... arguments) {
#if defined(COMNECK_EMULATION)
  namespace emulation = comneck::emulation;
  emulation::print_reports(false);
  (void)emulation::take_report();
  CHECK(launch(kernel, 1, threads, 0, nullptr, arguments...) == cudaErrorLaunchFailure);
  const char *report = emulation::take_report();
  if (std::strstr(report, what) == nullptr) std::fprintf(stderr, "expected '%s', reported '%s'\n", what, report);
  CHECK(std::strstr(report, what) != nullptr);
  (void)cudaGetLastError();
  emulation::print_reports(true);
#else
  (void)what, (void)kernel, (void)threads, ((void)arguments, ...);
#endif
}

template <class Wrong>
[[maybe_unused]] int wrong_of_twenty_seeds(const Wrong &wrong) {
  int found = 0;
#if defined(COMNECK_EMULATION)
  for (uint64_t seed = 1; seed <= 20; seed++) {
    comneck::emulation::seed(seed);
    found += wrong() ? 1 : 0;
  }
#endif
  return found;
}

void check_sums() {
  for (const int n : {0, 1, 31, 32, 33, 255, 256, 257, 1000}) {
    std::vector<int> in(static_cast<size_t>(n));
    for (int i = 0; i < n; i++) in[static_cast<size_t>(i)] = i * i - 7;
    const unsigned blocks = static_cast<unsigned>(n / 256 + 1);
    DeviceArray<int> device(in);
    DeviceArray<int> sums(blocks);
    CHECK(launch(tree_sum<true>, blocks, 256, 0, nullptr, device.data(), n, sums.data()) == cudaSuccess);
    const std::vector<int> out = sums.to_host();
    for (unsigned b = 0; b < blocks; b++) {
      int expected = 0;
      for (int i = static_cast<int>(b) * 256; i < std::min(n, static_cast<int>(b + 1) * 256); i++) expected += i * i - 7;
      CHECK_EQ(out[b], expected);
    }
  }
}

void check_warps() {
  DeviceArray<int> device(64 * 8);
  CHECK(launch(warp_operations, 1, 64, 0, nullptr, device.data()) == cudaSuccess);
  const std::vector<int> out = device.to_host();
  for (int t = 0; t < 64; t++) {
    const int lane = t % 32;
    const int base = t - lane;
    const int *mine = &out[static_cast<size_t>(t) * 8];
    CHECK_EQ(static_cast<unsigned>(mine[0]), 0x49249249u);
    CHECK_EQ(mine[1], base + 5);
    CHECK_EQ(mine[2], t / 8 * 8 + 5);
    CHECK_EQ(mine[3], t ^ 1);
    CHECK_EQ(mine[4], t % 8 == 0 ? t : t - 1);
    CHECK_EQ(mine[5], lane + 3 > 31 ? t : t + 3);
    CHECK_EQ(mine[6], 31);
    CHECK_EQ(mine[7], lane < 16 ? 16 : 32);
  }
  DeviceArray<int> votes(std::vector<int>{0});
  CHECK(launch(block_votes, 1, 96, 0, nullptr, votes.data()) == cudaSuccess);
  CHECK_EQ(votes.to_host()[0], 96 * (20 * 4 + 2 + 1));
}

// On a device a missing barrier may happen to work; the emulation has to find it.
void check_missing_barriers() {
#if defined(COMNECK_EMULATION)
  const std::vector<int> in(256, 1);
  DeviceArray<int> device(in);
  DeviceArray<int> sum(1);
  CHECK_EQ(wrong_of_twenty_seeds([&] {
             CHECK(launch(tree_sum<false>, 1, 256, 0, nullptr, device.data(), 256, sum.data()) == cudaSuccess);
             return sum.to_host()[0] != 256;
           }),
           20);
  CHECK_EQ(wrong_of_twenty_seeds([&] {
             CHECK(launch(tree_sum<true>, 1, 256, 0, nullptr, device.data(), 256, sum.data()) == cudaSuccess);
             return sum.to_host()[0] != 256;
           }),
           0);
  DeviceArray<int> out(32);
  CHECK_EQ(wrong_of_twenty_seeds([&] {
             CHECK(launch(rotate<false>, 1, 32, 128, nullptr, device.data(), out.data()) == cudaSuccess);
             return out.to_host() != std::vector<int>(32, 1);
           }),
           20);
  CHECK_EQ(wrong_of_twenty_seeds([&] {
             CHECK(launch(rotate<true>, 1, 32, 128, nullptr, device.data(), out.data()) == cudaSuccess);
             return out.to_host() != std::vector<int>(32, 1);
           }),
           0);
  DeviceArray<int> ones(128);
  CHECK(wrong_of_twenty_seeds([&] {
          CHECK(launch(across_warps<false>, 1, 128, 0, nullptr, ones.data()) == cudaSuccess);
          return ones.to_host() != std::vector<int>(128, 1);
        }) >= 8);
  CHECK_EQ(wrong_of_twenty_seeds([&] {
             CHECK(launch(across_warps<true>, 1, 128, 0, nullptr, ones.data()) == cudaSuccess);
             return ones.to_host() != std::vector<int>(128, 1);
           }),
           0);
#endif
}

}  // namespace

int main() {
  check_sums();
  check_warps();
  check_missing_barriers();
  check_bounds();
  DeviceArray<int> out(64);
  expect_report("different barriers", divergent_barrier, 32, out.data());
  expect_report("thread 3 has ended", early_exit, 32, out.data());
  expect_report("a shuffle from a lane that takes no part", foreign_lane, 32, out.data());
  expect_report("names a lane that has ended", missing_lane, 32, out.data());
  expect_report("thread 0 waits for the block", barrier_and_vote, 64, out.data());
  CHECK(launch(early_exit, 1, 3, 0, nullptr, out.data()) == cudaSuccess);  // nothing is left over from a failed launch
#if defined(COMNECK_EMULATION)
  comneck::emulation::print_reports(false);
  CHECK(launch(early_exit, 1, 1025, 0, nullptr, out.data()) == cudaErrorInvalidConfiguration);
#endif
  return 0;
}
