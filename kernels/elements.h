// One element of a buffer: F32 or BF16 in memory, f32 in registers.
#ifndef COMNECK_KERNELS_ELEMENTS_H
#define COMNECK_KERNELS_ELEMENTS_H

#include "canonical_math.h"
#include "comneck.h"
#include "device.h"

namespace comneck::cuda {

__device__ inline float load_element(const void *data, int32_t type, int64_t i) {
  return type == COMNECK_F32 ? static_cast<const float *>(data)[i] : PortableLanes::load_bf16(static_cast<const uint16_t *>(data) + i);
}

__device__ inline void store_element(void *data, int32_t type, int64_t i, float value) {
  if (type == COMNECK_F32) {
    static_cast<float *>(data)[i] = value;
  } else {
    PortableLanes::store_bf16(static_cast<uint16_t *>(data) + i, value);
  }
}

__device__ inline float round_to_bf16(float value) {
  uint16_t rounded = 0;
  PortableLanes::store_bf16(&rounded, value);
  return PortableLanes::load_bf16(&rounded);
}

__device__ inline float apply_function(int32_t function, float x) {
  switch (function) {
    case COMNECK_RELU: return canonical::relu<PortableLanes>(x);
    case COMNECK_QUICK_GELU: return canonical::quick_gelu<PortableLanes>(x);
    case COMNECK_GELU: return canonical::gelu<PortableLanes>(x);
    default: return x;
  }
}

}  // namespace comneck::cuda

#endif
