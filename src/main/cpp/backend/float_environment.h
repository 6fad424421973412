// The floating-point environment of canonical arithmetic: round to nearest even, no flush to zero, no traps. Other code
// in the process may have left a thread in another one (training libraries do); whoever computes stands in a scope of
// this type.
#ifndef COMNECK_BACKEND_FLOAT_ENVIRONMENT_H
#define COMNECK_BACKEND_FLOAT_ENVIRONMENT_H

#if defined(__x86_64__)
#include <xmmintrin.h>
#else
#include <fenv.h>
#endif

namespace comneck {

class FloatEnvironment {
 public:
#if defined(__x86_64__)
  FloatEnvironment() : before_(_mm_getcsr()) { _mm_setcsr(0x1F80); }
  ~FloatEnvironment() { _mm_setcsr(before_); }
#else
  FloatEnvironment() {
    fegetenv(&before_);
    fesetenv(FE_DFL_ENV);
  }
  ~FloatEnvironment() { fesetenv(&before_); }
#endif
  FloatEnvironment(const FloatEnvironment &) = delete;
  FloatEnvironment &operator=(const FloatEnvironment &) = delete;

 private:
#if defined(__x86_64__)
  unsigned before_;
#else
  fenv_t before_;
#endif
};

}  // namespace comneck

#endif
