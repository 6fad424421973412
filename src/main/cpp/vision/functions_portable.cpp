#include "vision/functions.h"

void comneck::apply_function_portable(FunctionCode function, const float *x, float *y, int64_t n) {
  apply_function<PortableLanes>(function, x, y, n);
}
