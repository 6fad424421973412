// Device memory of the kernels' tests: exactly as long as it says, so that the sanitizer sees what reads beyond.
#ifndef COMNECK_KERNELS_DEVICE_ARRAY_H
#define COMNECK_KERNELS_DEVICE_ARRAY_H

#include <algorithm>
#include <cstring>
#include <vector>

#include "check.h"
#include "device.h"

namespace comneck::cuda {

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) { CHECK(cudaMalloc(&data_, count * sizeof(T)) == cudaSuccess); }
  explicit DeviceArray(const std::vector<T> &values) : DeviceArray(values.size()) { fill(values); }
  DeviceArray(const DeviceArray &) = delete;
  DeviceArray &operator=(const DeviceArray &) = delete;
  ~DeviceArray() { (void)cudaFree(data_); }

  T *data() { return data_; }
  const T *data() const { return data_; }
  size_t size() const { return count_; }

  void fill(const std::vector<T> &values) {
    CHECK(values.size() == count_);
    CHECK(cudaMemcpyAsync(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice, nullptr) == cudaSuccess);
    CHECK(cudaStreamSynchronize(nullptr) == cudaSuccess);
  }

  std::vector<T> to_host() const {
    std::vector<T> values(count_);
    CHECK(cudaMemcpyAsync(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost, nullptr) == cudaSuccess);
    CHECK(cudaStreamSynchronize(nullptr) == cudaSuccess);
    return values;
  }

 private:
  T *data_ = nullptr;
  size_t count_;
};

}  // namespace comneck::cuda

#endif
