// Which instruction set rANS uses here.
#ifndef COMNECK_ENTROPY_RANS_ISA_H
#define COMNECK_ENTROPY_RANS_ISA_H

#include <cstdint>

namespace comneck {

// The values of COMNECK_ISA_*.
constexpr int32_t kIsaAuto = 0;
constexpr int32_t kIsaPortable = 1;
constexpr int32_t kIsaAvx2 = 2;
constexpr int32_t kIsaAvx512 = 3;

// The wanted one, or what this machine has where that is less.
inline int32_t rans_isa(int32_t wanted) {
  int32_t best = kIsaPortable;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt")) {
    best = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vl")
               ? kIsaAvx512
               : kIsaAvx2;
  }
#endif
  return wanted == kIsaAuto || wanted > best ? best : wanted;
}

}  // namespace comneck

#endif
