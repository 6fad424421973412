// Decoder of one image's payload (docs/format.md), pass by pass. Any bytes are allowed: reads stay inside memory of ours, and what is wrong
// is reported with its offset. The twin in Java is ReferenceRansDecoder.
#ifndef COMNECK_ENTROPY_RANS_DECODER_H
#define COMNECK_ENTROPY_RANS_DECODER_H

#include <cstdint>
#include <vector>

#include "entropy/payload_head.h"
#include "entropy/rans_lanes.h"
#include "entropy/rans_tables.h"

namespace comneck {

class RansDecoder {
 public:
  // isa: COMNECK_ISA_AUTO or one that this machine has.
  explicit RansDecoder(int32_t isa);

  // Makes room for payloads of this many bytes, so that start() does not allocate for them.
  void reserve(int64_t bytes);

  // Begins with an image; the payload is copied. COMNECK_OK or COMNECK_DAMAGED.
  int32_t start(const uint8_t *payload, int64_t bytes);

  // The next pass: count symbols; every index must be below tables.tables. COMNECK_OK or COMNECK_DAMAGED, then symbols are zeros and every
  // later pass is damaged too.
  int32_t decode(const RansTables &tables, const uint8_t *indices, int16_t *symbols, int64_t count);

  // After the last pass: everything must be consumed and the symbols must have this checksum.
  int32_t finish(uint32_t symbol_checksum);

  // What was wrong; "" while nothing is. Offset in the payload, -1 where there is none.
  const char *damage() const { return damage_.message; }
  int64_t damage_offset() const { return damage_.offset; }

 private:
  [[gnu::format(printf, 3, 4)]] int32_t damaged(int64_t offset, const char *format, ...);
  bool bits(int32_t count, uint32_t *value);
  int32_t settle(const RansTables &tables, const uint8_t *indices, int16_t *symbols, int64_t count, bool slow);
  int32_t settle_slow(const RansTables &tables, int32_t table, int32_t slot, int16_t *symbol);
  int64_t word_offset(int32_t s) const { return words_offset_[s] + 2 * (lanes_.word[s] - words_.data() - words_start_[s]); }

  DecodeRounds decode_wide_;    // of the instruction set
  DecodeRounds decode_rounds_;  // of this payload
  RansLanes lanes_;
  int32_t substreams_ = 1;
  bool ready_ = false;
  std::vector<uint16_t> words_;                  // each substream's, then padding
  int64_t words_start_[kMaxSubstreams];          // of each substream in words_
  const uint16_t *words_end_[kMaxSubstreams];
  int64_t words_offset_[kMaxSubstreams];         // in the payload, bytes
  std::vector<uint8_t> bits_;                    // the bit section, then 8 bytes of padding
  int64_t bits_offset_ = 0;                      // in the payload, bytes
  int64_t bit_ = 0;
  int64_t bit_end_ = 0;
  uint32_t checksum_ = 0;
  PayloadDamage damage_;
};

}  // namespace comneck

#endif
