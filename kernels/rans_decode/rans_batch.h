// Host: payloads laid out for the device.
#ifndef COMNECK_KERNELS_RANS_BATCH_H
#define COMNECK_KERNELS_RANS_BATCH_H

#include <string>
#include <vector>

#include "rans_decode/rans_decode.h"

namespace comneck::cuda {

constexpr int64_t kBitPadding = 8;  // bytes behind each bit section

// Where a payload's sections lie, for messages.
struct RansSections {
  int64_t bits_offset = 0;
  int64_t words_offset[kMaxSubstreams] = {};
};

// Room that a payload takes behind the head: words and bits. What does not parse takes none.
inline int64_t words_room(const PayloadHead &head) {
  int64_t words = 0;
  for (int32_t s = 0; s < head.substreams; s++) words += head.words[s];
  return words;
}

// Writes an image, its words to words[first_word ..] and its bits to bits[first_bit_byte ..].
void lay_out(const uint8_t *payload, const PayloadHead &head, uint16_t *words, int64_t first_word, uint8_t *bits, int64_t first_bit_byte,
             RansImage *image, RansSections *sections);

// An image whose head is no head: the device skips it.
RansImage damaged_image();

// What finish found, in the words of the processor's decoder; nothing where all is well. decoded: the image as it came back.
void describe(const RansImage &decoded, const RansSections &sections, uint32_t expected_checksum, PayloadDamage *damage);

}  // namespace comneck::cuda

#endif
