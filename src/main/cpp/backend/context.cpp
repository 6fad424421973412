#include "backend/context.h"

namespace comneck {
namespace {

const GemmKernels &f32_kernels(int32_t isa) {
#if defined(__x86_64__)
  if (isa == COMNECK_ISA_AVX512) return gemm_avx512();
  if (isa == COMNECK_ISA_AVX2) return gemm_avx2();
#endif
  (void)isa;
  return gemm_portable();
}

const GemmKernels &bf16_kernels(int32_t isa, bool instructions) {
#if defined(__x86_64__)
  if (isa == COMNECK_ISA_AVX512) return instructions ? gemm_bf16_avx512bf16() : gemm_bf16_avx512();
  if (isa == COMNECK_ISA_AVX2) return gemm_bf16_avx2();
#endif
  (void)isa;
  (void)instructions;
  return gemm_bf16_portable();
}

const GemmKernels &f32_narrow_kernels(int32_t isa) {
#if defined(__x86_64__)
  if (isa != COMNECK_ISA_PORTABLE) return gemm_narrow_avx2();
#endif
  return f32_kernels(isa);
}

const GemmKernels &bf16_narrow_kernels(int32_t isa, bool instructions) {
#if defined(__x86_64__)
  if (isa == COMNECK_ISA_AVX512 && instructions) return gemm_bf16_narrow_avx512bf16();
#endif
  return bf16_kernels(isa, instructions);
}

const VisionKernels &vision_kernels(int32_t isa, bool instructions) {
#if defined(__x86_64__)
  if (isa == COMNECK_ISA_AVX512) return instructions ? vision_avx512bf16() : vision_avx512();
  if (isa == COMNECK_ISA_AVX2) return vision_avx2();
#endif
  (void)isa;
  (void)instructions;
  return vision_portable();
}

}  // namespace

int32_t best_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return COMNECK_ISA_AVX512;
  }
  if (avx2) return COMNECK_ISA_AVX2;
#endif
  return COMNECK_ISA_PORTABLE;
}

bool has_avx512_bf16() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return best_isa() == COMNECK_ISA_AVX512 && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

}  // namespace comneck

comneck_context::comneck_context(int32_t threads, int32_t chosen_isa)
    : isa(chosen_isa),
      bf16_instructions(chosen_isa == COMNECK_ISA_AVX512 && comneck::has_avx512_bf16()),
      f32(comneck::f32_kernels(isa)),
      bf16(comneck::bf16_kernels(isa, bf16_instructions)),
      f32_narrow(comneck::f32_narrow_kernels(isa)),
      bf16_narrow(comneck::bf16_narrow_kernels(isa, bf16_instructions)),
      vision(comneck::vision_kernels(isa, bf16_instructions)),
      pool(threads) {}
