#include "entropy/quantize.h"
#include "entropy/quantize_loops.h"

namespace comneck {

const QuantizeKernels &quantize_kernels_avx2() {
  static const QuantizeKernels kernels{quantize_loop, dequantize_loop, indices_loop};
  return kernels;
}

}  // namespace comneck
