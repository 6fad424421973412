// What every kernel includes. Under nvcc it is CUDA; under any other compiler it is the emulation, so that the same .cu body runs on the
// processor, under its sanitizers, on machines without a GPU.
//
// Three things are written differently from plain CUDA, because no header can make g++ understand them:
//   launch(kernel, grid, block, shared_bytes, stream, arguments...)    instead of kernel<<<...>>>(...)
//   COMNECK_SHARED(name, float[16][33]);                               instead of __shared__ float name[16][33];
//   COMNECK_DYNAMIC_SHARED(float, name);                               instead of extern __shared__ float name[];
#ifndef COMNECK_KERNELS_DEVICE_H
#define COMNECK_KERNELS_DEVICE_H

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace comneck::cuda {

template <class T>
using Same = T;

// Queues a kernel. The status is the launch's own: what happens while it runs shows at the next synchronisation.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   const Arguments &...arguments) {
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
  return cudaGetLastError();
}

// Lets a kernel use up to this much dynamic shared memory.
template <class... Parameters>
cudaError_t allow_shared(void (*kernel)(Parameters...), size_t bytes) {
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

}  // namespace comneck::cuda

#define COMNECK_UNROLL _Pragma("unroll")
#define COMNECK_UNROLL_BY(n) COMNECK_PRAGMA(unroll n)
#define COMNECK_PRAGMA(text) _Pragma(#text)
#define COMNECK_SHARED(name, ...) __shared__ __align__(16) ::comneck::cuda::Same<__VA_ARGS__> name
// Aligned as the type is, and to 16 bytes at least; one alignment in a source file.
#define COMNECK_DYNAMIC_SHARED(type, name)                                                                     \
  extern __shared__ __align__(alignof(type) < 16 ? 16 : alignof(type)) unsigned char comneck_dynamic_shared[]; \
  type *name = reinterpret_cast<type *>(comneck_dynamic_shared)

#else

#include "emulation/emulation.h"

#define COMNECK_UNROLL
#define COMNECK_UNROLL_BY(n)

#endif

#endif
