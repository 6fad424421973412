#include "vision/functions.h"

void comneck::applyFunctionAvx512(FunctionCode function, const float *x, float *y, int64_t n) {
  applyFunction<Avx512Lanes>(function, x, y, n);
}
