// The head of a payload (docs/format.md), checked: the same for every decoder, on the processor or on a device.
#ifndef COMNECK_ENTROPY_PAYLOAD_HEAD_H
#define COMNECK_ENTROPY_PAYLOAD_HEAD_H

#include <cstdint>

#include "entropy/rans_lanes.h"

namespace comneck {

// What is wrong with a payload; "" for nothing. Offset in bytes, -1 where there is none.
struct PayloadDamage {
  int64_t offset = -1;
  char message[160] = "";

  // Always false, so that a check can `return damage->set(...)`.
  [[gnu::format(printf, 3, 4)]] bool set(int64_t at, const char *format, ...);
};

// All offsets are in bytes of the payload, and all sections lie inside.
struct PayloadHead {
  int32_t substreams;
  int64_t bits_offset;
  int64_t bit_bytes;
  int64_t side_bit;  // of the bit section, where the lane states end
  int64_t words_offset[kMaxSubstreams];
  int64_t words[kMaxSubstreams];
  uint32_t state[kMaxSubstreams * kLanes];  // of the present substreams' lanes
};

// Any bytes are allowed. False with the damage when they are no payload.
bool read_payload_head(const uint8_t *payload, int64_t bytes, PayloadHead *head, PayloadDamage *damage);

}  // namespace comneck

#endif
