// Encoder of one image's symbols; twin of RansDecoder and of ReferenceRansEncoder: the same bytes.
#ifndef COMNECK_ENTROPY_RANS_ENCODER_H
#define COMNECK_ENTROPY_RANS_ENCODER_H

#include <cstdint>
#include <vector>

#include "entropy/rans_lanes.h"
#include "entropy/rans_tables.h"

namespace comneck {

struct RansPass {
  const RansTables *tables;
  const uint8_t *indices;  // each below tables->tables
  const int16_t *values;
  int64_t count;
};

class RansEncoder {
 public:
  RansEncoder();

  // substreams: 1 to 32, or 0 for one in about 2 KiB of payload. The payload is valid until the next call.
  void encode(const RansPass *passes, int32_t count, int32_t substreams);

  const std::vector<uint8_t> &payload() const { return payload_; }
  uint32_t symbol_checksum() const { return checksum_; }

 private:
  class Bits {
   public:
    void clear();
    void put(uint32_t value, int32_t count);  // count <= 32
    void append(const Bits &other);
    int64_t count() const { return 8 * static_cast<int64_t>(bytes_.size()) + pending_; }
    void finish(std::vector<uint8_t> *out) const;

   private:
    std::vector<uint8_t> bytes_;
    uint64_t buffer_ = 0;
    int32_t pending_ = 0;
  };

  int64_t map(const RansPass &pass, uint32_t *codes);
  uint32_t map_escape(const RansTables &tables, int32_t table, int32_t value, int64_t *cost);
  void code(const RansPass &pass, const uint32_t *codes, int32_t substreams);

  std::vector<double> inverse_;    // of each frequency, rounded up
  std::vector<uint32_t> codes_;    // start and frequency of each symbol
  std::vector<uint16_t> words_;    // each substream's part is filled from its end
  uint32_t state_[kMaxSubstreams * kLanes];
  uint16_t *word_[kMaxSubstreams];
  Bits side_;
  Bits head_;
  uint32_t checksum_ = 0;
  std::vector<uint8_t> payload_;
};

}  // namespace comneck

#endif
