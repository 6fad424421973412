// CRC32C (Castagnoli, reflected, as in RFC 3720), with the CRC instruction where there is one.
#ifndef COMNECK_ENTROPY_CHECKSUM_H
#define COMNECK_ENTROPY_CHECKSUM_H

#include <cstdint>

namespace comneck {

// Continues a checksum; begin with 0.
uint32_t crc32c(uint32_t checksum, const void *data, int64_t bytes);

}  // namespace comneck

#endif
