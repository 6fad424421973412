/*
 * comneck_cuda.h: what libcomneck_cuda has besides comneck.h.
 *
 * The library implements the functions of comneck.h on a GPU, with the same results in F32, bit by bit. It needs the driver and nothing
 * else, and loads without one. Where it differs:
 *   - comneck_context_create(device, isa, ...): the first argument is the number of the device, the second one of COMNECK_CUDA_ISA_...;
 *   - a plan's memory is the device's: comneck_plan_seal gives NULL, the host writes and reads pinned memory of its ports, which is copied
 *     before and after an execution;
 *   - linear layers of precision BF16, and convolutions of one source from a multiple of 8 channels to 16 or more on full grids, run on
 *     tensor cores; others round inputs and weights to bf16 and then compute in F32;
 *   - there is a precision F16: linear layers on tensor cores in fp16, others in F32; steps take F16 where they take BF16;
 *   - a layer that tensor cores take has its weights in BF16 or F16 alone; a step that they do not take (several sources, half grids) makes F32 of
 *     these, once, which comneck_layer_bytes counts from then on;
 *   - a sealed plan is captured into a CUDA graph, which an execution launches; where capturing fails the steps are queued one by one;
 *   - COMNECK_OUT_OF_MEMORY is the device's or pinned memory, and COMNECK_LAUNCH_FAILED and COMNECK_DEVICE_LOST can come from any call;
 *   - comneck_plan_encode has room for two bits a symbol; what needs more is encoded once more with room enough, which stays;
 *   - the decoder without a plan runs on the processor.
 * The same sources compiled for the emulation give a library that does all this on the processor, for tests.
 */
#ifndef COMNECK_CUDA_H
#define COMNECK_CUDA_H

#include "comneck.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Why no GPU can be used. */
enum {
  COMNECK_CUDA_AVAILABLE = 0,
  COMNECK_CUDA_NO_DRIVER = 1,
  COMNECK_CUDA_OLD_DRIVER = 2,
  COMNECK_CUDA_NO_DEVICE = 3,
  COMNECK_CUDA_WRONG_ARCHITECTURE = 4, /* older than sm_80 */
  COMNECK_CUDA_BROKEN = 5              /* the driver says something else */
};

/*
 * Whether a device can be used: *cause is one of the above, *text one line for people (what device, or what is missing), truncated to
 * text_bytes. Always COMNECK_OK but for misuse.
 */
COMNECK_API int32_t comneck_cuda_probe(int32_t device, int32_t *cause, char *text, int64_t text_bytes);

/*
 * Which instructions attention and linear layers on tensor cores are made of. AUTO is SM80 on every device, as long as none has shown that SM90A is right and
 * faster there. COMNECK_UNSUPPORTED when the device is not of compute capability 9.0, or the library was built without sm_90a.
 */
enum { COMNECK_CUDA_ISA_AUTO = 0, COMNECK_CUDA_ISA_SM80 = 1, COMNECK_CUDA_ISA_SM90A = 2 };

/* A third precision of layers. */
enum { COMNECK_PRECISION_F16 = 2 };

/* Kinds of kernels. In F32 none of the first three is launched, and no TENSOR_CONVOLUTION. */
enum {
  COMNECK_CUDA_TENSOR_GEMM = 0,
  COMNECK_CUDA_FUSED_ATTENTION = 1,
  COMNECK_CUDA_ROW_NORM = 2,
  COMNECK_CUDA_CANONICAL_CONVOLUTION = 3,
  COMNECK_CUDA_CANONICAL_ATTENTION = 4,
  COMNECK_CUDA_CANONICAL_NORM = 5,
  COMNECK_CUDA_ELEMENTWISE = 6,
  COMNECK_CUDA_RANS = 7,
  COMNECK_CUDA_EMBED_NORM = 8,
  COMNECK_CUDA_CUBLASLT = 9, /* a linear layer by cuBLASLt; one image after the other counts as one */
  COMNECK_CUDA_TENSOR_CONVOLUTION = 10,
  COMNECK_CUDA_CUDNN = 11,   /* a convolution by cuDNN, of all images */
  COMNECK_CUDA_KINDS = 12
};

/* Vendor's libraries for layers of BF16 and F16; those of F32 have our own kernels always. */
enum {
  COMNECK_CUDA_LIBRARY_CUBLASLT = 0, /* versions 12 and 13: linear layers */
  COMNECK_CUDA_LIBRARY_CUDNN = 1     /* version 9: convolutions, transposed ones, too; layers take twice the memory or more */
};

/*
 * Opens a library for a context, once each, after the context was created and before its layers. path: of the library, or NULL to let the system
 * look for it. *text: which version was opened, or why none can be used, truncated to text_bytes; then our own kernels do its layers, as they do
 * whatever it does not do. When a plan is sealed each of the library's calls is tried, and replaced by our own kernel where it fails.
 */
COMNECK_API int32_t comneck_cuda_library(comneck_context *context, int32_t library, const char *path, char *text, int64_t text_bytes);

/* How many kernels of each kind an execution of the plan launches, the first `count` kinds. */
COMNECK_API int32_t comneck_cuda_plan_launches(const comneck_plan *plan, int64_t *launches, int64_t count);

/*
 * comneck_plan_embed to F32 and comneck_plan_layer_norm of that in one kernel, with the same bits: class token (NULL: none), position table,
 * weight and bias are F32 and copied. Source and destination F32, BF16 or F16; they do not overlap.
 */
COMNECK_API int32_t comneck_cuda_plan_embed_norm(comneck_plan *plan, const comneck_view *source, const float *class_token,
                                                 int64_t class_token_bytes, const float *positions, int64_t positions_bytes,
                                                 const float *weight, int64_t weight_bytes, const float *bias, int64_t bias_bytes,
                                                 float epsilon, const comneck_view *destination);

#ifdef __cplusplus
}
#endif

#endif
