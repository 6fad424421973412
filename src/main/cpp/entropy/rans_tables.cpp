#include "entropy/rans_tables.h"

#include <cstddef>

#include "backend/status.h"
#include "comneck.h"

namespace comneck {
namespace {

int32_t floor_log2(uint32_t x) { return 31 - __builtin_clz(x); }

// 256 * (12 - log2(frequency)) by squaring in integers; the same in ReferenceRansEncoder.cost.
uint16_t cost(uint32_t frequency) {
  const int32_t whole = floor_log2(frequency);
  uint64_t mantissa = static_cast<uint64_t>(frequency) << (30 - whole);  // [1, 2) in units of 2^-30
  int32_t log = whole;
  for (int i = 0; i < 8; i++) {
    mantissa = (mantissa * mantissa) >> 30;
    log <<= 1;
    if (mantissa >= (1ull << 31)) {
      mantissa >>= 1;
      log |= 1;
    }
  }
  return static_cast<uint16_t>(kPrecision * 256 - log);
}

int32_t check_table(int32_t t, int32_t shift, int32_t first, int32_t count, const int32_t *frequency) {
  if (shift < 0 || shift > 15) return fail(COMNECK_MISUSE, "table %d: shift %d is not within 0 to 15", t, shift);
  if (count < 1 || count > 255) return fail(COMNECK_MISUSE, "table %d: %d values, not 1 to 255", t, count);
  const int64_t scale = int64_t{1} << shift;
  if (first * scale < INT16_MIN || (int64_t{first} + count) * scale - 1 > INT16_MAX) {
    return fail(COMNECK_MISUSE, "table %d: its values exceed 16 bits", t);
  }
  int64_t sum = 0;
  for (int32_t q = 0; q <= count; q++) {
    if (frequency[q] < 1) return fail(COMNECK_MISUSE, "table %d: a frequency is %d", t, frequency[q]);
    sum += frequency[q];
  }
  if (sum != kSlots) return fail(COMNECK_MISUSE, "table %d: frequencies sum to %lld", t, static_cast<long long>(sum));
  return COMNECK_OK;
}

}  // namespace

int32_t pack_tables(int32_t tables, const int32_t *shift, const int32_t *first, const int32_t *count, const int32_t *frequency,
                    RansTables *packed) {
  *packed = RansTables{};
  if (tables < 1 || tables > kMaxTables) return fail(COMNECK_MISUSE, "%d tables, not 1 to %d", tables, kMaxTables);
  for (int32_t t = 0; t < tables; t++) {
    const int32_t status = check_table(t, shift[t], first[t], count[t], frequency + int64_t{t} * kTableSymbols);
    if (status != COMNECK_OK) return status;
  }
  const std::size_t n = static_cast<size_t>(tables);
  packed->shapes.resize(n);
  packed->entries.resize(n * kSlots);
  packed->starts.assign(n * (kTableSymbols + 1), kSlots);
  packed->codes.resize(n * kTableSymbols);
  packed->costs.resize(n * kTableSymbols);
  for (std::size_t t = 0; t < n; t++) {
    packed->shapes[t] = {shift[t], first[t], count[t]};
    uint32_t start = 0;
    for (int32_t q = 0; q <= count[t]; q++) {
      const uint32_t f = static_cast<uint32_t>(frequency[t * kTableSymbols + q]);
      const int32_t value = first[t] + q;
      const bool plain = q < count[t] && shift[t] == 0 && value > kSlow && value <= 127;
      const uint32_t high = static_cast<uint32_t>(plain ? value : kSlow) << 24;
      for (uint32_t i = 0; i < f; i++) packed->entries[t * kSlots + start + i] = high | f << kPrecision | i;
      packed->starts[t * (kTableSymbols + 1) + q] = static_cast<uint16_t>(start);
      packed->codes[t * kTableSymbols + q] = start << 16 | f;
      packed->costs[t * kTableSymbols + q] = cost(f);
      start += f;
    }
  }
  packed->tables = tables;
  return COMNECK_OK;
}

}  // namespace comneck
