#include "runtime/device_info.h"

#include <cstdio>

#include "comneck_cuda.h"
#include "device.h"

namespace comneck::cuda {

#if defined(COMNECK_EMULATION)

DeviceInfo probe(int32_t device) {
  DeviceInfo info;
  info.cause = device == 0 ? COMNECK_CUDA_AVAILABLE : COMNECK_CUDA_NO_DEVICE;
  info.multiprocessors = 4;
  std::snprintf(info.text, sizeof info.text, device == 0 ? "emulation on the processor" : "the emulation has device 0 only");
  return info;
}

#else

namespace {
constexpr int kOldestMajor = 8;  // the code is compiled for sm_80 and later
}

DeviceInfo probe(int32_t device) {
  DeviceInfo info;
  int driver = 0;
  int count = 0;
  const cudaError_t version_error = cudaDriverGetVersion(&driver);
  const cudaError_t error = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();  // asking must not fail the next launch
  if (version_error == cudaSuccess && driver == 0) {
    info.cause = COMNECK_CUDA_NO_DRIVER;
    std::snprintf(info.text, sizeof info.text, "no NVIDIA driver is installed");
  } else if (error == cudaErrorInsufficientDriver) {
    info.cause = COMNECK_CUDA_OLD_DRIVER;
    std::snprintf(info.text, sizeof info.text, "the driver knows CUDA %d.%d, needed is %d.%d", driver / 1000, driver % 1000 / 10,
                  CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
  } else if (error == cudaErrorNoDevice || (error == cudaSuccess && device >= count)) {
    info.cause = COMNECK_CUDA_NO_DEVICE;
    std::snprintf(info.text, sizeof info.text, "device %d of %d NVIDIA devices", device, error == cudaSuccess ? count : 0);
  } else if (error != cudaSuccess || device < 0) {
    info.cause = COMNECK_CUDA_BROKEN;
    std::snprintf(info.text, sizeof info.text, "device %d: %s", device, cudaGetErrorString(error));
  } else {
    cudaDeviceProp properties{};
    if (const cudaError_t failed = cudaGetDeviceProperties(&properties, device); failed != cudaSuccess) {
      info.cause = COMNECK_CUDA_BROKEN;
      std::snprintf(info.text, sizeof info.text, "device %d: %s", device, cudaGetErrorString(failed));
    } else if (properties.major < kOldestMajor) {
      info.cause = COMNECK_CUDA_WRONG_ARCHITECTURE;
      std::snprintf(info.text, sizeof info.text, "%.120s has compute capability %d.%d, needed is %d.0", properties.name, properties.major,
                    properties.minor, kOldestMajor);
    } else {
      info.multiprocessors = properties.multiProcessorCount;
      std::snprintf(info.text, sizeof info.text, "%.120s, sm_%d%d, %d multiprocessors, %lld MiB", properties.name, properties.major,
                    properties.minor, properties.multiProcessorCount, static_cast<long long>(properties.totalGlobalMem >> 20));
    }
  }
  return info;
}

#endif

}  // namespace comneck::cuda
