#include "backend/status.h"

#include <cstdarg>
#include <cstdio>

#include "comneck.h"

namespace comneck {
namespace {
thread_local char message[512] = "";
}

int32_t fail(int32_t status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return status;
}

}  // namespace comneck

int32_t comneck_abi_version(void) { return COMNECK_ABI_VERSION; }

const char *comneck_last_error(void) { return comneck::message; }
