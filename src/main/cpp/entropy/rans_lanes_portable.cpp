#include "entropy/rans_lanes.h"

namespace comneck {

bool decode_rounds_portable(RansLanes *lanes, int32_t substreams, int64_t stride, const uint32_t *entries, const uint8_t *indices,
                            int16_t *symbols, int32_t rounds) {
  bool slow = false;
  for (int32_t s = 0; s < substreams; s++) {
    uint32_t *state = lanes->state + s * kLanes;
    const uint16_t *word = lanes->word[s];
    for (int32_t r = 0; r < rounds; r++) {
      const int64_t at = r * stride + s * kLanes;
      for (int32_t lane = 0; lane < kLanes; lane++) {
        symbols[at + lane] = decode_symbol(state + lane, &word, entries + int64_t{indices[at + lane]} * 4096, &slow);
      }
    }
    lanes->word[s] = word;
  }
  return slow;
}

}  // namespace comneck
