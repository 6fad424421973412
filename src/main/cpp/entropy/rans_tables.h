// Coding tables packed for rANS: see org.comneck.backend.CodingTables.
#ifndef COMNECK_ENTROPY_RANS_TABLES_H
#define COMNECK_ENTROPY_RANS_TABLES_H

#include <cstdint>
#include <vector>

namespace comneck {

constexpr int32_t kPrecision = 12;                  // bits of a frequency
constexpr int32_t kSlots = 1 << kPrecision;         // sum of a table's frequencies
constexpr int32_t kMaxTables = 256;                 // indices are bytes
constexpr int32_t kTableSymbols = 256;              // 255 values at most, and the escape
constexpr int32_t kSlow = -128;                     // value of an entry that needs more than the entry
constexpr uint32_t kStateLow = 1u << 16;            // states live in [2^16, 2^32)

struct RansTables {
  struct Shape {
    int32_t shift;  // low bits that the table does not model
    int32_t first;  // smallest coded (shifted) value
    int32_t count;  // coded values; the symbol of this number is the escape
  };

  int32_t tables = 0;
  std::vector<Shape> shapes;

  // Decoder: entries[t][slot], bits 31..24 the value (signed; kSlow: look closer), 23..12 the frequency, 11..0 slot - start.
  // 64 Gaussian tables take 1 MiB, which fits the second-level cache.
  std::vector<uint32_t> entries;
  // starts[t][q]: sum of the frequencies before symbol q, 257 a table; entries after the escape are kSlots.
  std::vector<uint16_t> starts;

  // Encoder: codes[t][q], bits 31..16 the start, 15..0 the frequency.
  std::vector<uint32_t> codes;
  // costs[t][q]: 256 * (12 - log2(frequency)).
  std::vector<uint16_t> costs;
};

// Checks and packs. frequency: [tables][256], row t holds count[t] + 1 frequencies. Returns a status; on failure the tables are empty.
int32_t pack_tables(int32_t tables, const int32_t *shift, const int32_t *first, const int32_t *count, const int32_t *frequency,
                    RansTables *packed);

}  // namespace comneck

#endif
