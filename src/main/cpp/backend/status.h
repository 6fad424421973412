// Status and message of the last call on this thread.
#ifndef COMNECK_BACKEND_STATUS_H
#define COMNECK_BACKEND_STATUS_H

#include <cstdint>
#include <new>

#include "comneck.h"

namespace comneck {

// Stores a printf-style message for comneck_last_error() and returns status, so that a function can `return fail(...)`.
[[gnu::format(printf, 2, 3)]] int32_t fail(int32_t status, const char *format, ...);

// Runs body and turns what it throws into a status.
template <class Body>
int32_t guarded(const Body &body) {
  try {
    return body();
  } catch (const std::bad_alloc &) {
    return fail(COMNECK_OUT_OF_MEMORY, "out of memory");
  } catch (...) {
    return fail(COMNECK_INTERNAL, "an unexpected exception");
  }
}

}  // namespace comneck

#endif
