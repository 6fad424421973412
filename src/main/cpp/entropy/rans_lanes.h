// The inner loop of rANS decoding, once for each instruction set.
//
// A substream is 8 lanes: u32 states in [2^16, 2^32), and one sequence of 16-bit words that they share. Symbol i of a pass belongs to
// substream (i / 8) mod S, lane i mod 8: 32 consecutive symbols are four substreams, two AVX-512 registers, one warp.
#ifndef COMNECK_ENTROPY_RANS_LANES_H
#define COMNECK_ENTROPY_RANS_LANES_H

#include <cstdint>

namespace comneck {

constexpr int32_t kLanes = 8;
constexpr int32_t kMaxSubstreams = 32;

// Rounds (a symbol from every lane of every substream) between two checks of the word pointers. A lane takes at most one word a round and
// a register load reads 8, so that padding of this many words behind each substream keeps every read inside memory of ours.
constexpr int32_t kRounds = 16;
constexpr int32_t kPaddingWords = (kRounds + 1) * kLanes;

// What a slow symbol leaves in the output until it is settled: its slot, below every plain value.
constexpr int32_t kSlowMark = -32768;
constexpr int32_t kSlowEnd = kSlowMark + 4096;

struct alignas(64) RansLanes {
  uint32_t state[kMaxSubstreams * kLanes];
  const uint16_t *word[kMaxSubstreams];
};

/*
 * Decodes rounds <= kRounds rounds of substreams 0 .. substreams-1. indices and symbols: symbol (round r, substream s, lane l) is number
 * r * stride + 8 * s + l. entries: RansTables::entries. Returns whether a symbol is slow.
 */
using DecodeRounds = bool (*)(RansLanes *lanes, int32_t substreams, int64_t stride, const uint32_t *entries,
                              const uint8_t *indices, int16_t *symbols, int32_t rounds);

bool decode_rounds_portable(RansLanes *lanes, int32_t substreams, int64_t stride, const uint32_t *entries, const uint8_t *indices,
                            int16_t *symbols, int32_t rounds);
bool decode_rounds_avx2(RansLanes *lanes, int32_t substreams, int64_t stride, const uint32_t *entries, const uint8_t *indices,
                        int16_t *symbols, int32_t rounds);
bool decode_rounds_avx512(RansLanes *lanes, int32_t substreams, int64_t stride, const uint32_t *entries, const uint8_t *indices,
                          int16_t *symbols, int32_t rounds);

// One symbol of one lane; takes its word, if it needs one, from *word.
inline int16_t decode_symbol(uint32_t *state, const uint16_t **word, const uint32_t *table, bool *slow) {
  uint32_t x = *state;
  const uint32_t slot = x & 4095;
  const uint32_t entry = table[slot];
  x = ((entry >> 12) & 4095) * (x >> 12) + (entry & 4095);
  const bool refill = x < (1u << 16);
  const uint32_t filled = x << 16 | **word;
  *state = refill ? filled : x;
  *word += refill ? 1 : 0;
  const int32_t value = static_cast<int32_t>(entry) >> 24;
  if (value == -128) [[unlikely]] {
    *slow = true;
    return static_cast<int16_t>(kSlowMark + static_cast<int32_t>(slot));
  }
  return static_cast<int16_t>(value);
}

}  // namespace comneck

#endif
