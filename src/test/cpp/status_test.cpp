#include "backend/status.h"

#include <cstring>

#include "check.h"
#include "comneck.h"

int main() {
  CHECK_EQ(comneck_abi_version(), COMNECK_ABI_VERSION);
  CHECK_EQ(comneck::fail(COMNECK_DAMAGED, "word %d of %d", 3, 7), COMNECK_DAMAGED);
  CHECK(std::strcmp(comneck_last_error(), "word 3 of 7") == 0);
  return 0;
}
