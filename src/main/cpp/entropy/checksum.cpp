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
// The instruction takes one cycle but answers after three: three checksums of neighbouring pieces run at once and are joined by tables
// that say what kPiece zero bytes do to each byte of a checksum (Adler's crc32c.c).
constexpr int64_t kPiece = 256;

struct Shift {
  Shift() {
    for (uint32_t k = 0; k < 4; k++) {
      for (uint32_t n = 0; n < 256; n++) {
        uint32_t state = n << (8 * k);
        for (int64_t i = 0; i < kPiece; i++) state = (state >> 8) ^ kTable[state & 0xFF];
        table[k][n] = state;
      }
    }
  }
  uint32_t operator()(uint32_t state) const {
    return table[0][state & 0xFF] ^ table[1][state >> 8 & 0xFF] ^ table[2][state >> 16 & 0xFF] ^ table[3][state >> 24];
  }
  uint32_t table[4][256];
};

inline uint64_t eight_bytes(const uint8_t *data) {
  uint64_t eight;
  std::memcpy(&eight, data, 8);
  return eight;
}

[[gnu::target("sse4.2")]] uint32_t instruction(uint32_t state, const uint8_t *data, int64_t bytes) {
  static const Shift shift;
  uint64_t first = state;
  for (; bytes >= 3 * kPiece; bytes -= 3 * kPiece, data += 3 * kPiece) {
    uint64_t second = 0;
    uint64_t third = 0;
    for (int64_t i = 0; i < kPiece; i += 8) {
      first = _mm_crc32_u64(first, eight_bytes(data + i));
      second = _mm_crc32_u64(second, eight_bytes(data + kPiece + i));
      third = _mm_crc32_u64(third, eight_bytes(data + 2 * kPiece + i));
    }
    first = shift(shift(static_cast<uint32_t>(first)) ^ static_cast<uint32_t>(second)) ^ static_cast<uint32_t>(third);
  }
  for (; bytes >= 8; bytes -= 8, data += 8) first = _mm_crc32_u64(first, eight_bytes(data));
  uint32_t narrow = static_cast<uint32_t>(first);
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
