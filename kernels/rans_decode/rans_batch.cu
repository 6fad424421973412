#include "rans_decode/rans_batch.h"

#include <cstring>

namespace comneck::cuda {

void lay_out(const uint8_t *payload, const PayloadHead &head, uint16_t *words, int64_t first_word, uint8_t *bits, int64_t first_bit_byte,
             RansImage *image, RansSections *sections) {
  *image = RansImage{};
  *sections = RansSections{};
  image->substreams = head.substreams;
  image->words_first = first_word;
  image->bits_first = first_bit_byte;
  image->bit = head.side_bit;
  image->bit_end = 8 * head.bit_bytes;
  sections->bits_offset = head.bits_offset;
  std::memcpy(bits + first_bit_byte, payload + head.bits_offset, static_cast<size_t>(head.bit_bytes));
  std::memset(bits + first_bit_byte + head.bit_bytes, 0, kBitPadding);
  int64_t at = 0;
  for (int32_t s = 0; s < head.substreams; s++) {
    image->word[s] = image->word_begin[s] = static_cast<int32_t>(at);
    image->word_end[s] = static_cast<int32_t>(at + head.words[s]);
    sections->words_offset[s] = head.words_offset[s];
    if (head.words[s] > 0) std::memcpy(words + first_word + at, payload + head.words_offset[s], static_cast<size_t>(2 * head.words[s]));
    for (int32_t l = 0; l < kLanes; l++) image->state[s * kLanes + l] = head.state[s * kLanes + l];
    at += head.words[s];
  }
}

RansImage damaged_image() {
  RansImage image{};
  image.error = RansError::kHead;
  return image;
}

void describe(const RansImage &decoded, const RansSections &sections, uint32_t expected_checksum, PayloadDamage *damage) {
  const int32_t s = decoded.error == RansError::kState ? decoded.where / kLanes : decoded.where;
  const auto word_offset = [&](const int32_t *word) { return sections.words_offset[s] + 2 * int64_t{word[s] - decoded.word_begin[s]}; };
  switch (decoded.error) {
    case RansError::kHead: return;
    case RansError::kNone:
      if (decoded.checksum != expected_checksum) {
        (void)damage->set(-1, "the decoded symbols are not the encoder's: checksum %08x instead of %08x", decoded.checksum,
                          expected_checksum);
      }
      return;
    case RansError::kWordsMissing:
      (void)damage->set(word_offset(decoded.word_end), "substream %d of the payload ends too early", s);
      return;
    case RansError::kBitsMissing:
      (void)damage->set(sections.bits_offset + decoded.bit_end / 8, "the payload's bit section is too short");
      return;
    case RansError::kEscape:
      (void)damage->set(sections.bits_offset + decoded.bit / 8, "an escape in the payload exceeds 16 bits");
      return;
    case RansError::kWordsLeft:
      (void)damage->set(word_offset(decoded.word), "substream %d of the payload holds more than its symbols", s);
      return;
    case RansError::kState:
      (void)damage->set(word_offset(decoded.word), "lane %d of substream %d does not end where encoding began", decoded.where % kLanes, s);
      return;
    case RansError::kBitsLeft:
      (void)damage->set(sections.bits_offset + decoded.bit / 8, "the payload's bit section holds more than its symbols");
      return;
  }
}

}  // namespace comneck::cuda
