// Status and message of the last call on this thread.
#ifndef COMNECK_BACKEND_STATUS_H
#define COMNECK_BACKEND_STATUS_H

#include <cstdint>

namespace comneck {

// Stores a printf-style message for comneck_last_error() and returns status, so that a function can `return fail(...)`.
[[gnu::format(printf, 2, 3)]] int32_t fail(int32_t status, const char *format, ...);

}  // namespace comneck

#endif
