#include "vision/functions.h"

void comneck::applyFunctionAvx2(FunctionCode function, const float *x, float *y, int64_t n) {
  applyFunction<Avx2Lanes>(function, x, y, n);
}
