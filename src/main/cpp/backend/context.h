// Threads and kernels that layers and plans work with.
#ifndef COMNECK_BACKEND_CONTEXT_H
#define COMNECK_BACKEND_CONTEXT_H

#include <cstdint>
#include <mutex>

#include "backend/gemm.h"
#include "backend/thread_pool.h"
#include "comneck.h"
#include "vision/vision.h"

namespace comneck {

// The instruction set of this machine, or COMNECK_ISA_PORTABLE.
int32_t best_isa();
bool has_avx512_bf16();

}  // namespace comneck

struct comneck_context {
  comneck_context(int32_t threads, int32_t chosen_isa);

  const int32_t isa;  // COMNECK_ISA_PORTABLE, AVX2 or AVX512
  const bool bf16_instructions;
  const comneck::GemmKernels &f32;
  const comneck::GemmKernels &bf16;
  const comneck::GemmKernels &f32_narrow;  // for at most kNarrow output channels
  const comneck::GemmKernels &bf16_narrow;
  const comneck::VisionKernels &vision;
  std::mutex turn;  // held by whoever uses the pool
  comneck::ThreadPool pool;
};

#endif
