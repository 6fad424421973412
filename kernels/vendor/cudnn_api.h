// What of cuDNN's interface we use, declared by hand, because neither the build nor CI has its headers. Version 9. VendorConstantsTest compares
// the numbers with JavaCPP's preset.
#ifndef COMNECK_KERNELS_CUDNN_API_H
#define COMNECK_KERNELS_CUDNN_API_H

#include <cstddef>
#include <cstdint>

#include "device.h"

namespace comneck::cuda::cudnn {

using Handle = struct HandleOpaque *;
using Tensor = struct TensorOpaque *;
using Filter = struct FilterOpaque *;
using Convolution = struct ConvolutionOpaque *;
using Activation = struct ActivationOpaque *;

// cudnnStatus_t.
constexpr int kSuccess = 0;
constexpr int kBadParameter = 2000;
constexpr int kNotSupported = 3000;
constexpr int kExecutionFailed = 5000;

// cudnnDataType_t, cudnnTensorFormat_t, cudnnConvolutionMode_t, cudnnMathType_t, cudnnDeterminism_t.
constexpr int kFloat = 0;
constexpr int kHalf = 2;
constexpr int kBfloat16 = 9;
constexpr int kNhwc = 1;
constexpr int kCrossCorrelation = 1;
constexpr int kTensorOpMath = 1;  // products of floats in TF32
constexpr int kDeterministic = 1;

// cudnnConvolutionFwdAlgo_t, cudnnActivationMode_t, cudnnNanPropagation_t.
constexpr int kImplicitPrecompGemm = 1;
constexpr int kRelu = 1;
constexpr int kIdentity = 5;
constexpr int kNoNan = 0;

// Of a forward algorithm as of one for data.
struct Found {
  int algorithm;
  int status;
  float milliseconds;
  size_t memory;
  int determinism;
  int math_type;
  int reserved[3];
};
static_assert(sizeof(Found) == 48);

struct Functions {
  size_t (*GetVersion)();
  int (*Create)(Handle *);
  int (*Destroy)(Handle);
  int (*SetStream)(Handle, cudaStream_t);
  int (*CreateTensorDescriptor)(Tensor *);
  int (*DestroyTensorDescriptor)(Tensor);
  int (*SetTensor4dDescriptorEx)(Tensor, int type, int n, int c, int h, int w, int n_stride, int c_stride, int h_stride, int w_stride);
  int (*CreateFilterDescriptor)(Filter *);
  int (*DestroyFilterDescriptor)(Filter);
  int (*SetFilter4dDescriptor)(Filter, int type, int format, int k, int c, int h, int w);
  int (*CreateConvolutionDescriptor)(Convolution *);
  int (*DestroyConvolutionDescriptor)(Convolution);
  int (*SetConvolution2dDescriptor)(Convolution, int pad_h, int pad_w, int down, int across, int dilation_h, int dilation_w, int mode, int type);
  int (*SetConvolutionMathType)(Convolution, int math_type);
  int (*CreateActivationDescriptor)(Activation *);
  int (*DestroyActivationDescriptor)(Activation);
  int (*SetActivationDescriptor)(Activation, int mode, int nan, double coefficient);
  int (*GetConvolutionForwardAlgorithm_v7)(Handle, Tensor x, Filter, Convolution, Tensor y, int wanted, int *found, Found *);
  int (*GetConvolutionForwardWorkspaceSize)(Handle, Tensor x, Filter, Convolution, Tensor y, int algorithm, size_t *);
  int (*ConvolutionBiasActivationForward)(Handle, const void *alpha, Tensor, const void *x, Filter, const void *w, Convolution, int algorithm,
                                          void *workspace, size_t, const void *beta, Tensor, const void *z, Tensor, const void *bias, Activation,
                                          Tensor, void *y);
  int (*GetConvolutionBackwardDataAlgorithm_v7)(Handle, Filter, Tensor dy, Convolution, Tensor dx, int wanted, int *found, Found *);
  int (*GetConvolutionBackwardDataWorkspaceSize)(Handle, Filter, Tensor dy, Convolution, Tensor dx, int algorithm, size_t *);
  int (*ConvolutionBackwardData)(Handle, const void *alpha, Filter, const void *w, Tensor, const void *dy, Convolution, int algorithm,
                                 void *workspace, size_t, const void *beta, Tensor, void *dx);
  int (*AddTensor)(Handle, const void *alpha, Tensor, const void *a, const void *beta, Tensor, void *c);
};

// Each function with its name behind "cudnn", as a macro of the list's users asks: X(name).
#define COMNECK_CUDNN_FUNCTIONS(X)                                                                                                   \
  X(GetVersion) X(Create) X(Destroy) X(SetStream) X(CreateTensorDescriptor) X(DestroyTensorDescriptor) X(SetTensor4dDescriptorEx)     \
  X(CreateFilterDescriptor) X(DestroyFilterDescriptor) X(SetFilter4dDescriptor) X(CreateConvolutionDescriptor)                        \
  X(DestroyConvolutionDescriptor) X(SetConvolution2dDescriptor) X(SetConvolutionMathType) X(CreateActivationDescriptor)               \
  X(DestroyActivationDescriptor) X(SetActivationDescriptor) X(GetConvolutionForwardAlgorithm_v7) X(GetConvolutionForwardWorkspaceSize) \
  X(ConvolutionBiasActivationForward) X(GetConvolutionBackwardDataAlgorithm_v7) X(GetConvolutionBackwardDataWorkspaceSize)            \
  X(ConvolutionBackwardData) X(AddTensor)

}  // namespace comneck::cuda::cudnn

#endif
