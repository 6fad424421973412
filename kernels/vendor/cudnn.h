// Convolutions and transposed convolutions by cuDNN, where a context has opened it, in place of canonical_conv in BF16 and F16 plans.
//
//   y[p, o] = function(bias[o] + sum over tap, c of x[p, tap, c] * weight[o, tap, c])          NHWC as it lies; NONE or RELU, no residual
//
// From and to one type: F32, whose products cuDNN makes in TF32 (10 bits, as many as fp16 and more than bf16 keep, and f32's range), or the
// precision's own. A transposed layer is the gradient of a convolution with respect to its data, whose bias is added by a second call.
//
// A picture's bits do not depend on the batch: image after image is convolved, by an algorithm that cuDNN calls deterministic.
#ifndef COMNECK_KERNELS_CUDNN_H
#define COMNECK_KERNELS_CUDNN_H

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "comneck.h"
#include "elements.h"
#include "vendor/cudnn_api.h"

namespace comneck::cuda {

struct CudnnCall {
  comneck_convolution geometry;
  Side source;       // offset in the plan in place of the address
  Side destination;  // likewise
  int32_t images;
  int32_t height, width;  // of the source
  int32_t function;       // COMNECK_NONE, ...
  const void *weights;    // device, of the source's type: [K][row][column][C], for a transposed layer K are the inputs and C the outputs
  const void *bias;       // device, of the same type
};

// Host: a layer's weights from PyTorch's layout (OIHW, transposed IOHW) to that.
std::vector<float> pack_cudnn_weights(const comneck_convolution &geometry, const std::vector<float> &weights);

class Cudnn;

// One layer of a plan, all decided. It outlives no Cudnn.
class CudnnConvolution {
 public:
  CudnnConvolution(const CudnnConvolution &) = delete;
  CudnnConvolution &operator=(const CudnnConvolution &) = delete;
  ~CudnnConvolution();

  int64_t workspace_bytes() const { return workspace_bytes_; }
  // Queues it on addresses of the shapes it was made for. cudaErrorLaunchFailure when cuDNN refuses.
  cudaError_t queue(const void *source, void *destination, void *workspace, cudaStream_t stream) const;

 private:
  friend class Cudnn;
  CudnnConvolution(const Cudnn &library, const CudnnCall &call) : library_(library), call_(call) {}
  int image(const void *source, void *destination, void *workspace) const;

  const Cudnn &library_;
  const CudnnCall call_;
  cudnn::Tensor source_ = nullptr, destination_ = nullptr, bias_ = nullptr;
  cudnn::Filter filter_ = nullptr;
  cudnn::Convolution convolution_ = nullptr;
  cudnn::Activation activation_ = nullptr;
  int algorithm_ = 0;
  int64_t workspace_bytes_ = 0;
  int64_t source_image_ = 0;  // bytes
  int64_t destination_image_ = 0;
};

class Cudnn {
 public:
  static constexpr int64_t kMostWorkspace = int64_t{256} << 20;

  // path: of the library; null: libcudnn.so.9 where the system looks. Null when it is not to be had; *text: which one, or why not.
  static std::unique_ptr<Cudnn> open(const char *path, std::string *text);
  Cudnn(const Cudnn &) = delete;
  Cudnn &operator=(const Cudnn &) = delete;
  ~Cudnn();

  // Whether some plan could want this layer by cuDNN: for what has to be packed.
  static bool takes(const comneck_convolution &geometry);

  // Null when the layer is for our own kernel.
  std::shared_ptr<const CudnnConvolution> prepare(const CudnnCall &call) const;

 private:
  friend class CudnnConvolution;
  Cudnn() = default;
  bool choose(CudnnConvolution *made) const;

  cudnn::Functions functions_{};
  cudnn::Handle handle_ = nullptr;
  mutable std::mutex turn_;  // a handle has one stream at a time
};

}  // namespace comneck::cuda

#endif
