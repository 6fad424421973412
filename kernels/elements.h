// One element of a buffer: F32, BF16 or F16 in memory, f32 in registers.
#ifndef COMNECK_KERNELS_ELEMENTS_H
#define COMNECK_KERNELS_ELEMENTS_H

#include "canonical_math.h"
#include "comneck.h"
#include "device.h"
#include "tensor_core.h"

namespace comneck::cuda {

// Channels of a buffer on the device. Element (row, c) is element number row * stride + c, a row being one position of one image.
struct Side {
  const void *data;  // channel 0 of position 0 of image 0
  int64_t stride;    // elements from one position to the next
  int32_t type;      // COMNECK_F32, COMNECK_BF16 or COMNECK_F16
};

__device__ inline float load_element(const void *data, int32_t type, int64_t i) {
  if (type == COMNECK_F32) return static_cast<const float *>(data)[i];
  if (type == COMNECK_F16) return widen<F16>(static_cast<const uint16_t *>(data)[i]);
  return PortableLanes::load_bf16(static_cast<const uint16_t *>(data) + i);
}

__device__ inline void store_element(void *data, int32_t type, int64_t i, float value) {
  if (type == COMNECK_F32) {
    static_cast<float *>(data)[i] = value;
  } else if (type == COMNECK_F16) {
    static_cast<uint16_t *>(data)[i] = static_cast<uint16_t>(pack_pair<F16>(value, 0.0f));
  } else {
    PortableLanes::store_bf16(static_cast<uint16_t *>(data) + i, value);
  }
}

__device__ inline float load(const Side &side, int64_t row, int64_t c) { return load_element(side.data, side.type, row * side.stride + c); }

__device__ inline void store(const Side &side, int64_t row, int64_t c, float value) {
  store_element(const_cast<void *>(side.data), side.type, row * side.stride + c, value);
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
