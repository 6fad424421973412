// What a device is and whether it can be used.
#ifndef COMNECK_KERNELS_DEVICE_INFO_H
#define COMNECK_KERNELS_DEVICE_INFO_H

#include <cstdint>

namespace comneck::cuda {

struct DeviceInfo {
  int32_t cause = 0;  // COMNECK_CUDA_AVAILABLE, ...
  int32_t multiprocessors = 0;
  char text[256] = "";  // what it is, or what is missing
};

DeviceInfo probe(int32_t device);

}  // namespace comneck::cuda

#endif
