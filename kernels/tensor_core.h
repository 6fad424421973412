// Tensor cores and what feeds them, as warp-wide functions: PTX of sm_80 under nvcc, the same on the emulation elsewhere. All 32 lanes
// of a warp call each of them together.
//
//   multiply_add<T>      mma.sync.m16n8k16: sum (16 x 8, f32) += a (16 x 16) * b (16 x 8), T being Bf16 or F16
//   load_matrices        ldmatrix.x4: four 8 x 8 matrices of 16-bit elements from shared memory
//   copy_16, commit_copies, wait_copies    cp.async: 16 bytes from global to shared memory, past the registers
//   pack_pair<T>, widen<T>, exp2_fast
//
// Who holds what, with group = lane / 4 and pair = lane % 4 * 2 (PTX ISA, "Matrix fragments for mma.m16n8k16"); a register holds two
// elements, the first one in its lower half:
//   a[0]  rows group,     columns pair,     pair + 1        b0  rows pair,     pair + 1, column group
//   a[1]  rows group + 8, columns pair,     pair + 1        b1  rows pair + 8, pair + 9, column group
//   a[2]  rows group,     columns pair + 8, pair + 9        sum[0], sum[1]  row group,     columns pair, pair + 1
//   a[3]  rows group + 8, columns pair + 8, pair + 9        sum[2], sum[3]  row group + 8, columns pair, pair + 1
//   load_matrices: register i has elements pair, pair + 1 of row group of matrix i; transposed: of column group.
#ifndef COMNECK_KERNELS_TENSOR_CORE_H
#define COMNECK_KERNELS_TENSOR_CORE_H

#include "comneck.h"
#include "device.h"

#if !defined(__CUDACC__)
#include "backend/bits.h"
#endif

namespace comneck::cuda {

// Element types of a product. In memory both are uint16_t.
struct Bf16 {
  static constexpr int32_t kType = COMNECK_BF16;
};
struct F16 {
  static constexpr int32_t kType = COMNECK_F16;
};

#if defined(__CUDACC__)

template <class T>
__device__ __forceinline__ void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  if constexpr (T::kType == COMNECK_BF16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// row: 8 elements in shared memory, at a multiple of 16 bytes; lane l names row l % 8 of matrix l / 8.
template <bool kTransposed = false>
__device__ __forceinline__ void load_matrices(uint32_t (&out)[4], const uint16_t *row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
  }
}

// 16 bytes to shared memory: the first `bytes` of them from global memory, the others zeros. Both addresses are multiples of 16; nothing
// is read where bytes is 0. There once this lane has waited for its group, for the other lanes after a barrier.
__device__ __forceinline__ void copy_16(void *shared, const void *global, uint32_t bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))), "l"(__cvta_generic_to_global(global)), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kGroups>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" : : "n"(kGroups) : "memory");
}

// Two values rounded to nearest even, `low` in the lower half.
template <class T>
__device__ __forceinline__ uint32_t pack_pair(float low, float high) {
  uint32_t pair;
  if constexpr (T::kType == COMNECK_BF16) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  }
  return pair;
}

template <class T>
__device__ __forceinline__ float widen(uint16_t x) {
  if constexpr (T::kType == COMNECK_BF16) return __uint_as_float(uint32_t{x} << 16);
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
  return y;
}

// 2^x with a relative error of at most 2^-22; subnormal results are 0.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

#else

template <class T>
float widen(uint16_t x) {
  return T::kType == COMNECK_BF16 ? from_bf16(x) : from_f16(x);
}

struct MultiplyAdd {
  float *sum;
  const uint32_t *a;
  uint32_t b[2];
};

// sum + a[0] b[0] + ... + a[15] b[15]. Products are exact. Devices add some of them at a time, aligned to the largest, and cut off what is below
// the sum's last bit: here eight at a time, exactly, then rounded towards zero, which is no better than what is known of them.
inline float add_products(float sum, const float *a, const float *b) {
  for (int first = 0; first < 16; first += 8) {
    double exact = sum;
    for (int k = first; k < first + 8; k++) exact += double{a[k]} * double{b[k]};
    sum = static_cast<float>(exact);
    if (std::isfinite(sum) && std::fabs(double{sum}) > std::fabs(exact)) sum = std::bit_cast<float>(std::bit_cast<uint32_t>(sum) - 1);
  }
  return sum;
}

template <class T>
void multiply_add_together(void *const *lanes) {
  const auto lane = [&](int i) -> MultiplyAdd & { return *static_cast<MultiplyAdd *>(lanes[i]); };
  const auto half = [](uint32_t pair, int which) { return widen<T>(static_cast<uint16_t>(pair >> (which * 16))); };
  float a[16][16];
  float b[8][16];  // [column][k]
  for (int l = 0; l < 32; l++) {
    const int group = l / 4;
    for (int which = 0; which < 2; which++) {
      const int pair = l % 4 * 2 + which;
      for (int i = 0; i < 4; i++) a[group + i % 2 * 8][pair + i / 2 * 8] = half(lane(l).a[i], which);
      for (int i = 0; i < 2; i++) b[group][pair + i * 8] = half(lane(l).b[i], which);
    }
  }
  for (int l = 0; l < 32; l++) {
    for (int i = 0; i < 4; i++) {
      lane(l).sum[i] = add_products(lane(l).sum[i], a[l / 4 + i / 2 * 8], b[l % 4 * 2 + i % 2]);
    }
  }
}

template <class T>
void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, emulation::Site site = emulation::Site::here()) {
  MultiplyAdd mine{sum, a, {b0, b1}};
  emulation::together(&multiply_add_together<T>, &mine, site);
}

struct LoadMatrices {
  uint32_t *out;
  const uint16_t *row;
};

template <bool kTransposed>
void load_matrices_together(void *const *lanes) {
  const auto lane = [&](int i) -> LoadMatrices & { return *static_cast<LoadMatrices *>(lanes[i]); };
  for (int l = 0; l < 32; l++) {
    const int group = l / 4;
    const int pair = l % 4 * 2;
    for (int i = 0; i < 4; i++) {
      const uint32_t low = kTransposed ? lane(i * 8 + pair).row[group] : lane(i * 8 + group).row[pair];
      const uint32_t high = kTransposed ? lane(i * 8 + pair + 1).row[group] : lane(i * 8 + group).row[pair + 1];
      lane(l).out[i] = low | high << 16;
    }
  }
}

template <bool kTransposed = false>
void load_matrices(uint32_t (&out)[4], const uint16_t *row, emulation::Site site = emulation::Site::here()) {
  emulation::check_shared(row, 16, 16, site);
  LoadMatrices mine{out, row};
  emulation::together(&load_matrices_together<kTransposed>, &mine, site);
}

inline void copy_16(void *shared, const void *global, uint32_t bytes, emulation::Site site = emulation::Site::here()) {
  emulation::check_shared(shared, 16, 16, site);
  emulation::check_copy(global, bytes, 16, site);
  emulation::copy_later(shared, global, bytes, 16);
}
inline void commit_copies() { emulation::commit_copies(); }
template <int kGroups>
void wait_copies() {
  emulation::wait_copies(kGroups);
}

template <class T>
uint32_t pack_pair(float low, float high) {
  if constexpr (T::kType == COMNECK_BF16) return uint32_t{to_bf16(low)} | uint32_t{to_bf16(high)} << 16;
  return uint32_t{to_f16(low)} | uint32_t{to_f16(high)} << 16;
}

inline float exp2_fast(float x) {
  const float y = std::exp2(x);
  return y < 1.17549435e-38f ? 0.0f : y;
}

#endif

}  // namespace comneck::cuda

#endif
