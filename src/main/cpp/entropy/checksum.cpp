#include "entropy/checksum.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace comneck {
namespace {

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; bit++) value = (value >> 1) ^ ((value & 1) != 0 ? 0x82F63B78u : 0);
    table[i] = value;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = make_table();

uint32_t portable(uint32_t state, const uint8_t *data, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i++) state = (state >> 8) ^ kTable[(state ^ data[i]) & 0xFF];
  return state;
}

#if defined(__x86_64__)
[[gnu::target("sse4.2")]] uint32_t instruction(uint32_t state, const uint8_t *data, int64_t bytes) {
  uint64_t wide = state;
  for (; bytes >= 8; bytes -= 8, data += 8) {
    uint64_t eight;
    std::memcpy(&eight, data, 8);
    wide = _mm_crc32_u64(wide, eight);
  }
  uint32_t narrow = static_cast<uint32_t>(wide);
  for (; bytes > 0; bytes--, data++) narrow = _mm_crc32_u8(narrow, *data);
  return narrow;
}

bool has_instruction() {
  static const bool found = __builtin_cpu_supports("sse4.2") != 0;
  return found;
}
#endif

}  // namespace

uint32_t crc32c(uint32_t checksum, const void *data, int64_t bytes) {
  const uint8_t *first = static_cast<const uint8_t *>(data);
#if defined(__x86_64__)
  if (has_instruction()) return ~instruction(~checksum, first, bytes);
#endif
  return ~portable(~checksum, first, bytes);
}

}  // namespace comneck
