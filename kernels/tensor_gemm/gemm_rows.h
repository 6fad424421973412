// The end of both products: sums that lie in shared memory get bias, residual and function, and go to memory.
#ifndef COMNECK_KERNELS_GEMM_ROWS_H
#define COMNECK_KERNELS_GEMM_ROWS_H

#include "tensor_core.h"
#include "tensor_gemm/tensor_gemm.h"

namespace comneck::cuda {

template <class T>
__device__ inline float load_value(const Side &side, int64_t row, int64_t c) {
  const int64_t at = row * side.stride + c;
  return side.type == COMNECK_F32 ? static_cast<const float *>(side.data)[at] : widen<T>(static_cast<const uint16_t *>(side.data)[at]);
}

template <class T>
__device__ inline void store_value(const Side &side, int64_t row, int64_t c, float value) {
  const int64_t at = row * side.stride + c;
  void *data = const_cast<void *>(side.data);
  if (side.type == COMNECK_F32) {
    static_cast<float *>(data)[at] = value;
  } else {
    static_cast<uint16_t *>(data)[at] = static_cast<uint16_t>(pack_pair<T>(value, 0.0f));
  }
}

// sums: [rows][kPitch] of a block's outputs from (first_row, first_column) on, of which rows_left rows exist. neighbours: residual and
// destination can be reached by four elements at a time (has_neighbours). place(row): the row of residual and destination. By kThreads threads.
template <class T, int kColumns, int kPitch, int kThreads, class Place>
__device__ inline void finish_rows(const GemmCall &call, const float *sums, int64_t first_row, int32_t rows_left, int32_t first_column,
                                   const Place &place, bool neighbours) {
  const int32_t columns_left = min(call.outputs - first_column, int32_t{kColumns});
  COMNECK_UNROLL_BY(1)
  for (int e = static_cast<int>(threadIdx.x); e < rows_left * (kColumns / 4); e += kThreads) {
    const int row = e / (kColumns / 4);
    const int column = e % (kColumns / 4) * 4;
    const int count = min(4, columns_left - column);
    if (count <= 0) continue;
    const int64_t r = place(first_row + row);
    const int64_t c = first_column + column;
    const bool whole = neighbours && count == 4;
    float value[4];
    COMNECK_UNROLL
    for (int i = 0; i < 4; i++) value[i] = sums[row * kPitch + column + i] + (i < count ? call.bias[c + i] : 0.0f);
    if (call.residual.data != nullptr) {
      if (whole && call.residual.type == COMNECK_F32) {
        const float4 x = *reinterpret_cast<const float4 *>(static_cast<const float *>(call.residual.data) + r * call.residual.stride + c);
        value[0] = value[0] + x.x;
        value[1] = value[1] + x.y;
        value[2] = value[2] + x.z;
        value[3] = value[3] + x.w;
      } else {
        COMNECK_UNROLL
        for (int i = 0; i < 4; i++) {
          if (i < count) value[i] = value[i] + load_value<T>(call.residual, r, c + i);
        }
      }
    }
    COMNECK_UNROLL
    for (int i = 0; i < 4; i++) value[i] = apply_function(call.function, value[i]);
    void *to = const_cast<void *>(call.destination.data);
    const int64_t at = r * call.destination.stride + c;
    if (whole && call.destination.type == COMNECK_F32) {
      *reinterpret_cast<float4 *>(static_cast<float *>(to) + at) = {value[0], value[1], value[2], value[3]};
    } else if (whole) {
      *reinterpret_cast<uint2 *>(static_cast<uint16_t *>(to) + at) = {pack_pair<T>(value[0], value[1]), pack_pair<T>(value[2], value[3])};
    } else {
      COMNECK_UNROLL
      for (int i = 0; i < 4; i++) {
        if (i < count) store_value<T>(call.destination, r, c + i, value[i]);
      }
    }
  }
}

inline bool is_aligned(const Side &side, uintptr_t bytes, int64_t elements) {
  return side.data == nullptr || (reinterpret_cast<uintptr_t>(side.data) % bytes == 0 && side.stride % elements == 0);
}

inline bool has_neighbours(const GemmCall &call) {
  const auto four = [](const Side &side) { return is_aligned(side, side.type == COMNECK_F32 ? 16 : 8, 4); };
  return four(call.residual) && four(call.destination);
}

}  // namespace comneck::cuda

#endif
