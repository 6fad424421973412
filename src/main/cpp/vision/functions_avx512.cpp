#include "vision/functions.h"

void comneck::apply_function_avx512(FunctionCode function, const float *x, float *y, int64_t n) {
  apply_function<Avx512Lanes>(function, x, y, n);
}
