// Tensor cores of sm_90a and what feeds them: TMA, mbarriers and wgmma, as PTX under nvcc, the same on the emulation elsewhere. Kernels with
// them exist for sm_90a alone: COMNECK_SM90A_BODY says whether this pass compiles their bodies.
//
//   TensorMap, map_tokens    a tensor (images, tokens, channels) of 16-bit elements in global memory, from which boxes are loaded
//   Barrier, init_barrier, publish_barriers, expect_bytes, arrive, wait_barrier      mbarriers of the block
//   load_box                 cp.async.bulk.tensor: a box of tokens x 64 channels to shared memory; zeros where the tensor has ended
//   order_products, multiply_add_group<T>, multiply_add_tiles<T>, commit_products, wait_products
//                            wgmma.fence, .mma_async with its left side in registers or in shared memory, .commit_group, .wait_group
//
// A box lies in shared memory as rows of 64 elements, 128 bytes, at a multiple of 1024 bytes; of each eight rows, piece p (16 bytes) of row r
// lies at place p ^ (r % 8): the 128-byte swizzle of TMA and of wgmma's descriptors.
#ifndef COMNECK_KERNELS_HOPPER_H
#define COMNECK_KERNELS_HOPPER_H

#include "tensor_core.h"

#if defined(__CUDACC__)
#include <cuda.h>
#else
#include <array>
#endif

// The pass for sm_90a, or a host's, which reads kernels and compiles none.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define COMNECK_SM90A_BODY 1
#endif

namespace comneck::cuda {

// 64 channels, the width of a box.
constexpr int kBoxChannels = 64;

struct alignas(1024) EightRows {
  uint16_t element[8][kBoxChannels];
};

#if defined(__CUDACC__)

using TensorMap = CUtensorMap;

struct Barrier {
  uint64_t word;
};

__device__ __forceinline__ uint32_t shared_address_of(const void *shared) { return static_cast<uint32_t>(__cvta_generic_to_shared(shared)); }

// By one thread, before any other touches it: `arrivals` a phase.
__device__ __forceinline__ void init_barrier(Barrier *barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" : : "r"(shared_address_of(barrier)), "r"(arrivals) : "memory");
}
// By the thread that initialised them, before TMA may know of them; the other threads know after a barrier of the block.
__device__ __forceinline__ void publish_barriers() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Arrives; the phase ends when all have arrived and this many bytes more have come.
__device__ __forceinline__ void expect_bytes(Barrier *barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" : : "r"(shared_address_of(barrier)), "r"(bytes) : "memory");
}

__device__ __forceinline__ void arrive(Barrier *barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" : : "r"(shared_address_of(barrier)) : "memory");
}

// Until the phase of this parity is over: 0 for the first, 1 for the second, 0 for the third and so on.
__device__ __forceinline__ void wait_barrier(Barrier *barrier, uint32_t parity) {
  uint32_t over;
  do {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}"
        : "=r"(over)
        : "r"(shared_address_of(barrier)), "r"(parity)
        : "memory");
  } while (over == 0);
}

// By one thread: the map's box at this place to shared memory; its bytes, zeros included, come to the barrier.
__device__ __forceinline__ void load_box(const TensorMap &map, void *to, Barrier *barrier, int32_t channel, int32_t token, int32_t image) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];"
               :
               : "r"(shared_address_of(to)), "l"(&map), "r"(shared_address_of(barrier)), "r"(channel), "r"(token), "r"(image)
               : "memory");
}

// The lanes are together here: the compiler joins them after a branch. A __syncwarp() that says so serializes the products (ptxas C7511).
__device__ __forceinline__ void order_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kGroups>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(kGroups) : "memory");
}

// Keeps the compiler from moving or copying registers that products are about to read or write.
template <int kRows>
__device__ __forceinline__ void pin(float (&sum)[kRows][4]) {
  COMNECK_UNROLL
  for (int j = 0; j < kRows; j++) {
    COMNECK_UNROLL
    for (int i = 0; i < 4; i++) asm volatile("" : "+f"(sum[j][i])::"memory");
  }
}

// Matrix descriptor of rows in the 128-byte swizzle (PTX ISA, "Matrix descriptor format"): eight rows to the next eight are 1024 bytes; the
// other stride is not used, as a row is one swizzle wide.
__device__ __forceinline__ uint64_t matrix_at(const void *shared) {
  return (uint64_t{shared_address_of(shared)} & 0x3FFFFu) >> 4 | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}

#define COMNECK_SUM(j) "+f"(sum[j][0]), "+f"(sum[j][1]), "+f"(sum[j][2]), "+f"(sum[j][3])
#define COMNECK_WGMMA_64(types, transposed)                                                                                  \
  asm volatile(                                                                                                              \
      "{\n"                                                                                                                  \
      ".reg .pred p;\n"                                                                                                      \
      "setp.ne.b32 p, %37, 0;\n"                                                                                             \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." types                                                                    \
      " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24," \
      " %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, p, 1, 1, " transposed ";\n"                           \
      "}"                                                                                                                    \
      : COMNECK_SUM(0), COMNECK_SUM(1), COMNECK_SUM(2), COMNECK_SUM(3), COMNECK_SUM(4), COMNECK_SUM(5), COMNECK_SUM(6),      \
        COMNECK_SUM(7)                                                                                                       \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(matrix), "r"(adds))
#define COMNECK_WGMMA_16(types, transposed)                                                                                        \
  asm volatile(                                                                                                                    \
      "{\n"                                                                                                                        \
      ".reg .pred p;\n"                                                                                                            \
      "setp.ne.b32 p, %13, 0;\n"                                                                                                   \
      "wgmma.mma_async.sync.aligned.m64n16k16.f32." types                                                                          \
      " {%0, %1, %2, %3, %4, %5, %6, %7}, {%8, %9, %10, %11}, %12, p, 1, 1, " transposed ";\n"                                     \
      "}"                                                                                                                          \
      : COMNECK_SUM(0), COMNECK_SUM(1)                                                                                             \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(matrix), "r"(adds))

template <class T, int kColumns, bool kTransposed>
__device__ __forceinline__ void multiply_add_group(float (&sum)[8][4], const uint32_t (&a)[4], const void *b, bool accumulates) {
  static_assert(kColumns == 64 || (kColumns == 16 && !kTransposed));
  const uint64_t matrix = matrix_at(b);
  const int32_t adds = accumulates ? 1 : 0;
  if constexpr (T::kType == COMNECK_BF16 && kTransposed) {
    COMNECK_WGMMA_64("bf16.bf16", "1");
  } else if constexpr (T::kType == COMNECK_BF16 && kColumns == 64) {
    COMNECK_WGMMA_64("bf16.bf16", "0");
  } else if constexpr (T::kType == COMNECK_BF16) {
    COMNECK_WGMMA_16("bf16.bf16", "0");
  } else if constexpr (kTransposed) {
    COMNECK_WGMMA_64("f16.f16", "1");
  } else if constexpr (kColumns == 64) {
    COMNECK_WGMMA_64("f16.f16", "0");
  } else {
    COMNECK_WGMMA_16("f16.f16", "0");
  }
}
#undef COMNECK_WGMMA_64
#undef COMNECK_WGMMA_16

#define COMNECK_SUM_4(j) COMNECK_SUM(j), COMNECK_SUM(j + 1), COMNECK_SUM(j + 2), COMNECK_SUM(j + 3)
#define COMNECK_WGMMA_TILE_64(types)                                                                                         \
  asm volatile(                                                                                                              \
      "{\n"                                                                                                                  \
      ".reg .pred p;\n"                                                                                                      \
      "setp.ne.b32 p, %34, 0;\n"                                                                                             \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." types                                                                    \
      " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24," \
      " %25, %26, %27, %28, %29, %30, %31}, %32, %33, p, 1, 1, 0, 0;\n"                                                      \
      "}"                                                                                                                    \
      : COMNECK_SUM_4(0), COMNECK_SUM_4(4)                                                                                   \
      : "l"(left), "l"(right), "r"(adds))
#define COMNECK_WGMMA_TILE_128(types)                                                                                          \
  asm volatile(                                                                                                                \
      "{\n"                                                                                                                    \
      ".reg .pred p;\n"                                                                                                        \
      "setp.ne.b32 p, %66, 0;\n"                                                                                               \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." types                                                                     \
      " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24,"   \
      " %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"    \
      " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, %64, %65, p, 1, 1, 0, 0;\n"           \
      "}"                                                                                                                      \
      : COMNECK_SUM_4(0), COMNECK_SUM_4(4), COMNECK_SUM_4(8), COMNECK_SUM_4(12)                                                \
      : "l"(left), "l"(right), "r"(adds))

template <class T, int kColumns>
__device__ __forceinline__ void multiply_add_tiles(float (&sum)[kColumns / 8][4], const void *a, const void *b, bool accumulates) {
  static_assert(kColumns == 64 || kColumns == 128);
  const uint64_t left = matrix_at(a);
  const uint64_t right = matrix_at(b);
  const int32_t adds = accumulates ? 1 : 0;
  if constexpr (T::kType == COMNECK_BF16 && kColumns == 64) {
    COMNECK_WGMMA_TILE_64("bf16.bf16");
  } else if constexpr (T::kType == COMNECK_BF16) {
    COMNECK_WGMMA_TILE_128("bf16.bf16");
  } else if constexpr (kColumns == 64) {
    COMNECK_WGMMA_TILE_64("f16.f16");
  } else {
    COMNECK_WGMMA_TILE_128("f16.f16");
  }
}
#undef COMNECK_WGMMA_TILE_64
#undef COMNECK_WGMMA_TILE_128
#undef COMNECK_SUM_4
#undef COMNECK_SUM

// Whether kernels for sm_90a are in this build and the current device runs them.
inline bool has_wgmma() {
#if defined(COMNECK_SM90A)
  int device = 0, major = 0, minor = 0;
  return cudaGetDevice(&device) == cudaSuccess && cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess && major == 9 && minor == 0;
#else
  return false;
#endif
}

// (images, tokens, channels) whose tokens lie `stride` elements apart, images token after token; boxes of `box_tokens` x 64 channels of one
// image. memory: at a multiple of 16 bytes, stride a multiple of 8. cudaErrorInvalidValue: what TMA does not take.
inline cudaError_t map_tokens(TensorMap *map, const void *memory, int32_t type, int64_t images, int64_t tokens, int64_t channels, int64_t stride,
                              int32_t box_tokens) {
  void *function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  if (const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
      error != cudaSuccess) {
    return error;
  }
  if (found != cudaDriverEntryPointSuccess) return cudaErrorInsufficientDriver;
  const cuuint64_t sizes[3] = {static_cast<cuuint64_t>(channels), static_cast<cuuint64_t>(tokens), static_cast<cuuint64_t>(images)};
  const cuuint64_t strides[2] = {static_cast<cuuint64_t>(stride) * 2, static_cast<cuuint64_t>(stride * tokens) * 2};
  const cuuint32_t box[3] = {kBoxChannels, static_cast<cuuint32_t>(box_tokens), 1};
  const cuuint32_t steps[3] = {1, 1, 1};
  const CUresult result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function)(
      map, type == COMNECK_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 3, const_cast<void *>(memory), sizes, strides,
      box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

#else

struct TensorMap {
  const char *memory;
  int64_t sizes[3];
  int64_t strides[2];  // of tokens and images, bytes
  int32_t box_tokens;
};

// Numbered as they are initialised; those up to `published` are known to TMA.
struct Barriers {
  uint64_t initialised = 0;
  uint64_t published = 0;
};
inline Barriers barriers;

struct alignas(8) Barrier {
  static constexpr uint32_t kInitialised = 0xBA221E25u;
  uint32_t mark;
  uint32_t arrivals, missing, phase;
  int64_t bytes;
  uint64_t number;

  void advance() {
    if (missing > 0 || bytes != 0) return;
    missing = arrivals;
    phase ^= 1;
  }
};

inline void check_barrier(Barrier *barrier, emulation::Site site) {
  emulation::check_shared(barrier, sizeof(Barrier), 8, site);
  if (barrier->mark != Barrier::kInitialised) emulation::misused("a barrier that was not initialised", site);
}

inline void init_barrier(Barrier *barrier, uint32_t arrivals, emulation::Site site = emulation::Site::here()) {
  emulation::check_shared(barrier, sizeof(Barrier), 8, site);
  *barrier = {Barrier::kInitialised, arrivals, arrivals, 0, 0, ++barriers.initialised};
}
inline void publish_barriers() { barriers.published = barriers.initialised; }

inline void expect_bytes(Barrier *barrier, uint32_t bytes, emulation::Site site = emulation::Site::here()) {
  check_barrier(barrier, site);
  if (barrier->missing == 0) emulation::misused("more arrivals than the barrier has in a phase", site);
  barrier->bytes += bytes;
  barrier->missing--;
  barrier->advance();
}

inline void arrive(Barrier *barrier, emulation::Site site = emulation::Site::here()) {
  check_barrier(barrier, site);
  if (barrier->missing == 0) emulation::misused("more arrivals than the barrier has in a phase", site);
  barrier->missing--;
  barrier->advance();
}

inline void wait_barrier(Barrier *barrier, uint32_t parity, emulation::Site site = emulation::Site::here()) {
  check_barrier(barrier, site);
  emulation::wait_until([=] { return barrier->phase != parity; }, site);
}

inline void load_box(const TensorMap &map, void *to, Barrier *barrier, int32_t channel, int32_t token, int32_t image,
                     emulation::Site site = emulation::Site::here()) {
  check_barrier(barrier, site);
  if (barrier->number > barriers.published) emulation::misused("a barrier that was not published", site);
  const uint32_t address = emulation::shared_address(to, site);
  if (address % 1024 != 0) emulation::misused("a misaligned address", site);
  (void)emulation::shared_at(address, static_cast<size_t>(map.box_tokens) * kBoxChannels * 2, site);
  emulation::work_later([=] {
    for (int32_t row = 0; row < map.box_tokens; row++) {
      for (int32_t c = 0; c < kBoxChannels; c++) {
        const int64_t at[3] = {int64_t{channel} + c, int64_t{token} + row, image};
        uint16_t element = 0;
        if (at[0] >= 0 && at[1] >= 0 && at[2] >= 0 && at[0] < map.sizes[0] && at[1] < map.sizes[1] && at[2] < map.sizes[2]) {
          std::memcpy(&element, map.memory + at[0] * 2 + at[1] * map.strides[0] + at[2] * map.strides[1], 2);
        }
        const auto linear = address + static_cast<uint32_t>(row * 128 + c * 2);
        std::memcpy(emulation::shared_at(linear ^ (linear >> 7 & 7u) << 4, 2, site), &element, 2);
      }
    }
    barrier->bytes -= int64_t{map.box_tokens} * kBoxChannels * 2;
    barrier->advance();
  });
}

inline void order_products(emulation::Site site = emulation::Site::here()) {
  emulation::together([](void *const *) { emulation::order_products(); }, nullptr, site);
}
inline void commit_products(emulation::Site site = emulation::Site::here()) {
  emulation::together([](void *const *) { emulation::commit_products(); }, nullptr, site);
}
template <int kGroups>
void wait_products(emulation::Site site = emulation::Site::here()) {
  emulation::together([](void *const *) { emulation::wait_products(kGroups); }, nullptr, site);
}
template <int kRows>
void pin(float (&)[kRows][4]) {}

// Element k of row r of a matrix at this address, in the swizzle; transposed: element r of row k.
template <class T>
float matrix_element(uint32_t address, int r, int k, bool transposed, emulation::Site site) {
  const int row = transposed ? k : r;
  const uint32_t linear = address + static_cast<uint32_t>(row / 8 * 1024 + row % 8 * 128 + (transposed ? r : k) * 2);
  uint16_t element;
  std::memcpy(&element, emulation::shared_at(linear ^ (linear >> 7 & 7u) << 4, 2, site), 2);
  return widen<T>(element);
}

struct MultiplyAddGroup {
  float (*sum)[4];
  const uint32_t *registers;  // the left side, or null
  uint32_t a, b;              // addresses of matrices
  bool accumulates;
  int group_row;              // of the warp's 16 rows of 64
  emulation::Site site;
};

template <class T, int kColumns, bool kTransposed>
void multiply_add_group_together(void *const *lanes) {
  // What the lanes brought is theirs until they go on; their registers stay.
  std::array<MultiplyAddGroup, 32> all;
  for (size_t l = 0; l < 32; l++) {
    all[l] = *static_cast<MultiplyAddGroup *>(lanes[l]);
    if (all[0].a != all[l].a || all[0].b != all[l].b || all[0].accumulates != all[l].accumulates) {
      return emulation::failed_at("lanes of one product name different matrices", all[0].site);
    }
  }
  const emulation::Site site = all[0].site;
  emulation::product_later([=] {
    float a[16][16];
    for (int row = 0; row < 16; row++) {
      for (int k = 0; k < 16; k++) {
        if (all[0].registers == nullptr) {
          a[row][k] = matrix_element<T>(all[0].a, all[0].group_row + row, k, false, site);
        } else {
          const MultiplyAddGroup &lane = all[static_cast<size_t>(row % 8 * 4 + k % 8 / 2)];
          a[row][k] = widen<T>(static_cast<uint16_t>(lane.registers[row / 8 + k / 8 * 2] >> (k % 2 * 16)));
        }
      }
    }
    float b[kColumns][16];
    for (int column = 0; column < kColumns; column++) {
      for (int k = 0; k < 16; k++) b[column][k] = matrix_element<T>(all[0].b, column, k, kTransposed, site);
    }
    for (int l = 0; l < 32; l++) {
      for (int j = 0; j < kColumns / 8; j++) {
        for (int i = 0; i < 4; i++) {
          float &sum = all[static_cast<size_t>(l)].sum[j][i];
          sum = add_products(all[0].accumulates ? sum : 0.0f, a[l / 4 + i / 2 * 8], b[j * 8 + l % 4 * 2 + i % 2]);
        }
      }
    }
  }, site);
}

// Of a tile of 1024 bytes a product begins at a piece of its first row.
inline uint32_t matrix_at(const void *shared, emulation::Site site) {
  const uint32_t address = emulation::shared_address(shared, site);
  if (address % 1024 >= 128 || address % 16 != 0) emulation::misused("a misaligned address", site);
  return address;
}

template <class T, int kColumns, bool kTransposed>
void multiply_add_group(float (&sum)[8][4], const uint32_t (&a)[4], const void *b, bool accumulates,
                        emulation::Site site = emulation::Site::here()) {
  static_assert(kColumns == 64 || (kColumns == 16 && !kTransposed));
  MultiplyAddGroup mine{sum, a, 0, matrix_at(b, site), accumulates, 0, site};
  emulation::together(&multiply_add_group_together<T, kColumns, kTransposed>, &mine, site);
}

template <class T, int kColumns>
void multiply_add_tiles(float (&sum)[kColumns / 8][4], const void *a, const void *b, bool accumulates,
                        emulation::Site site = emulation::Site::here()) {
  static_assert(kColumns == 64 || kColumns == 128);
  MultiplyAddGroup mine{sum, nullptr, matrix_at(a, site), matrix_at(b, site), accumulates, static_cast<int>(threadIdx.x / 32 % 4) * 16, site};
  emulation::together(&multiply_add_group_together<T, kColumns, false>, &mine, site);
}

inline bool has_wgmma() { return true; }

inline cudaError_t map_tokens(TensorMap *map, const void *memory, int32_t type, int64_t images, int64_t tokens, int64_t channels, int64_t stride,
                              int32_t box_tokens) {
  constexpr int64_t kMost = int64_t{1} << 32;
  const int64_t bytes = stride * 2;
  if ((type != COMNECK_BF16 && type != COMNECK_F16) || reinterpret_cast<uintptr_t>(memory) % 16 != 0 || bytes % 16 != 0 || images < 1 || tokens < 1 ||
      channels < 1 || images > kMost || tokens > kMost || channels > kMost || bytes <= 0 || bytes * tokens >= int64_t{1} << 40 || box_tokens < 1 ||
      box_tokens > 256) {
    return cudaErrorInvalidValue;
  }
  *map = {static_cast<const char *>(memory), {channels, tokens, images}, {bytes, bytes * tokens}, box_tokens};
  return cudaSuccess;
}

#endif

}  // namespace comneck::cuda

#endif
