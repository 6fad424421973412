#include "vision/functions.h"

void comneck::applyFunctionPortable(FunctionCode function, const float *x, float *y, int64_t n) {
  applyFunction<PortableLanes>(function, x, y, n);
}
