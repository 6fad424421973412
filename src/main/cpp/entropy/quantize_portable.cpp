#include "entropy/quantize.h"
#include "entropy/quantize_loops.h"
#include "entropy/rans_isa.h"

namespace comneck {

const QuantizeKernels &quantize_kernels_portable() {
  static const QuantizeKernels kernels{quantize_loop, dequantize_loop, indices_loop};
  return kernels;
}

const QuantizeKernels &quantize_kernels(int32_t isa) {
  switch (isa) {
    case kIsaAvx512: return quantize_kernels_avx512();
    case kIsaAvx2: return quantize_kernels_avx2();
    default: return quantize_kernels_portable();
  }
}

}  // namespace comneck
