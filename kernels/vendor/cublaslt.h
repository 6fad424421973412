// Linear layers by cuBLASLt, where a context has opened it: what tensor_gemm computes, from operands in memory as its own.
//
//   D[o, r] = function(sum over k of weight[o, k] * x[r, k] + bias[o] [+ residual[r, o]])      column-major: weights transposed, x as it lies
//
// Rows are taken as they lie (leading dimension: channels of the buffer), the residual is C with beta 1, the bias and ReLU are the epilogue.
// Its GELU is the tanh form and ours the exact one, and it has no QuickGELU: layers that end in these are not for it, nor is a source in f32.
//
// A row's bits do not depend on the batch: the algorithm, without split of k, is the heuristic's first for the rows of one image, and a whole
// batch is multiplied with this one where it says that it can do so; where it does not, image after image is.
#ifndef COMNECK_KERNELS_CUBLASLT_H
#define COMNECK_KERNELS_CUBLASLT_H

#include <memory>
#include <string>

#include "tensor_gemm/tensor_gemm.h"
#include "vendor/cublaslt_api.h"

namespace comneck::cuda {

class CublasLt;

// One layer of a plan, all decided. It outlives no CublasLt.
class CublasLtProduct {
 public:
  CublasLtProduct(const CublasLtProduct &) = delete;
  CublasLtProduct &operator=(const CublasLtProduct &) = delete;
  ~CublasLtProduct();

  int64_t workspace_bytes() const { return workspace_bytes_; }
  // Queues it. The sides have addresses here, shapes are those it was made for. cudaErrorLaunchFailure when cuBLASLt refuses.
  cudaError_t queue(const GemmCall &call, void *workspace, cudaStream_t stream) const;

 private:
  friend class CublasLt;
  explicit CublasLtProduct(const CublasLt &library) : library_(library) {}
  void release_rows();

  const CublasLt &library_;
  cublaslt::MatmulDesc desc_ = nullptr;
  cublaslt::MatrixLayout weights_ = nullptr, source_ = nullptr, residual_ = nullptr, destination_ = nullptr;
  cublaslt::Algorithm algorithm_{};
  int64_t workspace_bytes_ = 0;
  int64_t rows_ = 0;   // of one call
  int64_t calls_ = 0;
};

class CublasLt {
 public:
  static constexpr int64_t kMostWorkspace = int64_t{32} << 20;  // what cuBLAS advises for Hopper

  // path: of the library; null: libcublasLt.so.13 or .12 where the system looks. Null when it is not to be had; *text: which one, or why not.
  static std::unique_ptr<CublasLt> open(const char *path, std::string *text);
  CublasLt(const CublasLt &) = delete;
  CublasLt &operator=(const CublasLt &) = delete;
  ~CublasLt();

  // Null when the layer is for tensor_gemm. Sides: offsets in the plan in place of addresses, the residual's stride 0 where there is none;
  // rows: of `images` images.
  // bias: device, of the destination's type.
  std::shared_ptr<const CublasLtProduct> prepare(const GemmCall &call, int64_t images, const void *bias) const;

 private:
  friend class CublasLtProduct;
  CublasLt() = default;
  bool choose(const CublasLtProduct &product, cublaslt::Heuristic *chosen) const;

  cublaslt::Functions functions_{};
  cublaslt::Handle handle_ = nullptr;
};

}  // namespace comneck::cuda

#endif
