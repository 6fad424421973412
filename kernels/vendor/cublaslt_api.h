// What of cuBLASLt's interface we use, declared by hand, because neither the build nor CI has its headers: opaque handles, the structure of a
// heuristic's answer, functions by name. Versions 12 and 13 have the same. VendorConstantsTest compares the numbers with JavaCPP's preset.
#ifndef COMNECK_KERNELS_CUBLASLT_API_H
#define COMNECK_KERNELS_CUBLASLT_API_H

#include <cstddef>
#include <cstdint>

#include "device.h"

namespace comneck::cuda::cublaslt {

using Handle = struct HandleOpaque *;
using MatmulDesc = struct MatmulDescOpaque *;
using MatrixLayout = struct MatrixLayoutOpaque *;
using Preference = struct PreferenceOpaque *;

// Status: 0 is success.
constexpr int kSuccess = 0;
constexpr int kInvalidValue = 7;
constexpr int kExecutionFailed = 13;
constexpr int kNotSupported = 15;

// cudaDataType, cublasComputeType_t, cublasOperation_t.
constexpr int kR32F = 0;
constexpr int kR16F = 2;
constexpr int kR16BF = 14;
constexpr int kCompute32F = 68;
constexpr int32_t kOpT = 1;

// cublasLtMatmulDescAttributes_t and cublasLtEpilogue_t.
constexpr int kDescTransA = 3;       // int32_t
constexpr int kDescEpilogue = 7;     // uint32_t
constexpr int kDescBiasPointer = 8;  // void *
constexpr uint32_t kEpilogueBias = 4;
constexpr uint32_t kEpilogueReluBias = 6;

// cublasLtMatmulPreferenceAttributes_t and cublasLtReductionScheme_t.
constexpr int kPreferenceWorkspaceBytes = 1;  // uint64_t
constexpr int kPreferenceReductionMask = 3;   // uint32_t
constexpr int kPreferenceAlignmentA = 5;      // uint32_t
constexpr int kPreferenceAlignmentB = 6;
constexpr int kPreferenceAlignmentC = 7;
constexpr int kPreferenceAlignmentD = 8;
constexpr uint32_t kReductionNone = 0;

// cublasLtMatmulAlgoConfigAttributes_t.
constexpr int kConfigSplitK = 2;     // int32_t
constexpr int kConfigReduction = 3;  // uint32_t

struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Heuristic) == 96);

struct Functions {
  size_t (*GetVersion)();
  int (*Create)(Handle *);
  int (*Destroy)(Handle);
  int (*MatmulDescCreate)(MatmulDesc *, int compute_type, int scale_type);
  int (*MatmulDescDestroy)(MatmulDesc);
  int (*MatmulDescSetAttribute)(MatmulDesc, int attribute, const void *, size_t bytes);
  int (*MatrixLayoutCreate)(MatrixLayout *, int type, uint64_t rows, uint64_t columns, int64_t leading);
  int (*MatrixLayoutDestroy)(MatrixLayout);
  int (*MatmulPreferenceCreate)(Preference *);
  int (*MatmulPreferenceDestroy)(Preference);
  int (*MatmulPreferenceSetAttribute)(Preference, int attribute, const void *, size_t bytes);
  int (*MatmulAlgoGetHeuristic)(Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c, MatrixLayout d, Preference, int wanted,
                                Heuristic *, int *found);
  int (*MatmulAlgoCheck)(Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c, MatrixLayout d, const Algorithm *, Heuristic *);
  int (*MatmulAlgoConfigGetAttribute)(const Algorithm *, int attribute, void *, size_t bytes, size_t *written);
  int (*Matmul)(Handle, MatmulDesc, const void *alpha, const void *a, MatrixLayout, const void *b, MatrixLayout, const void *beta,
                const void *c, MatrixLayout, void *d, MatrixLayout, const Algorithm *, void *workspace, size_t workspace_bytes, cudaStream_t);
};

// Each function with its name behind "cublasLt", as a macro of the list's users asks: X(name).
#define COMNECK_CUBLASLT_FUNCTIONS(X)                                                                                           \
  X(GetVersion) X(Create) X(Destroy) X(MatmulDescCreate) X(MatmulDescDestroy) X(MatmulDescSetAttribute) X(MatrixLayoutCreate)    \
  X(MatrixLayoutDestroy) X(MatmulPreferenceCreate) X(MatmulPreferenceDestroy) X(MatmulPreferenceSetAttribute)                    \
  X(MatmulAlgoGetHeuristic) X(MatmulAlgoCheck) X(MatmulAlgoConfigGetAttribute) X(Matmul)

}  // namespace comneck::cuda::cublaslt

#endif
