#include "entropy/rans_encoder.h"

#include <algorithm>
#include <cstring>

#include "entropy/checksum.h"

namespace comneck {
namespace {

// Payload bytes that one substream is for: 24 bytes a substream are then about 1 %.
constexpr int64_t kBytesPerSubstream = 2048;

int32_t floor_log2(uint32_t x) { return 31 - __builtin_clz(x); }

void put_varint(std::vector<uint8_t> *out, int64_t value) {
  uint64_t rest = static_cast<uint64_t>(value);
  for (; rest >= 0x80; rest >>= 7) out->push_back(static_cast<uint8_t>(rest | 0x80));
  out->push_back(static_cast<uint8_t>(rest));
}

}  // namespace

void RansEncoder::Bits::clear() {
  bytes_.clear();
  buffer_ = 0;
  pending_ = 0;
}

void RansEncoder::Bits::put(uint32_t value, int32_t count) {
  buffer_ |= static_cast<uint64_t>(value) << pending_;
  for (pending_ += count; pending_ >= 8; pending_ -= 8, buffer_ >>= 8) bytes_.push_back(static_cast<uint8_t>(buffer_));
}

void RansEncoder::Bits::append(const Bits &other) {
  for (const uint8_t byte : other.bytes_) put(byte, 8);
  put(static_cast<uint32_t>(other.buffer_), other.pending_);
}

void RansEncoder::Bits::finish(std::vector<uint8_t> *out) const {
  out->insert(out->end(), bytes_.begin(), bytes_.end());
  if (pending_ > 0) out->push_back(static_cast<uint8_t>(buffer_));
}

RansEncoder::RansEncoder() : inverse_(kSlots + 1), state_{} {
  // Rounded up: floor(x * inverse) is then floor(x / f) for every x below f * 2^20, because the product is at most x / f + 2^-29 and
  // no quotient that is not an integer comes nearer than 1 / f >= 2^-12 to the next one.
  for (int f = 1; f <= kSlots; f++) inverse_[static_cast<size_t>(f)] = (1.0 / f) * (1 + 0x1p-50);
}

// What the symbol of a value cannot say goes to the side bits. Returns the symbol's code.
uint32_t RansEncoder::map_escape(const RansTables &tables, int32_t table, int32_t value, int64_t *cost) {
  const RansTables::Shape &shape = tables.shapes[static_cast<size_t>(table)];
  int32_t q = (value >> shape.shift) - shape.first;
  if (q >= 0 && q < shape.count) {
    side_.put(static_cast<uint32_t>(value) & ((1u << shape.shift) - 1), shape.shift);
  } else {
    const bool negative = q < 0;
    const int32_t low = shape.first * (1 << shape.shift);
    const int32_t high = (shape.first + shape.count) * (1 << shape.shift) - 1;
    const uint32_t distance = static_cast<uint32_t>(negative ? low - value : value - high);
    const int32_t zeros = floor_log2(distance);
    side_.put(negative ? 1 : 0, 1);
    side_.put(1u << zeros, zeros + 1);
    side_.put(distance & ((1u << zeros) - 1), zeros);
    q = shape.count;
  }
  const size_t at = static_cast<size_t>(table) * kTableSymbols + static_cast<size_t>(q);
  *cost += tables.costs[at];
  return tables.codes[at];
}

// Forwards: each symbol's code, and the pass's cost in 256ths of a bit.
int64_t RansEncoder::map(const RansPass &pass, uint32_t *codes) {
  const RansTables &tables = *pass.tables;
  int64_t cost = 0;
  for (int64_t i = 0; i < pass.count; i++) {
    const int32_t table = pass.indices[i];
    const RansTables::Shape &shape = tables.shapes[static_cast<size_t>(table)];
    const int32_t q = pass.values[i] - shape.first;
    if (shape.shift == 0 && q >= 0 && q < shape.count) [[likely]] {
      const int64_t at = int64_t{table} * kTableSymbols + q;
      codes[i] = tables.codes[static_cast<size_t>(at)];
      cost += tables.costs[static_cast<size_t>(at)];
    } else {
      codes[i] = map_escape(tables, table, pass.values[i], &cost);
    }
  }
  checksum_ = crc32c(checksum_, pass.values, 2 * pass.count);
  return cost;
}

// Backwards: states and words.
void RansEncoder::code(const RansPass &pass, const uint32_t *codes, int32_t substreams) {
  const int64_t round = int64_t{substreams} * kLanes;
  const double *inverse = inverse_.data();
  for (int64_t end = pass.count; end > 0;) {
    const int64_t begin = (end - 1) / kLanes * kLanes;
    const int32_t s = static_cast<int32_t>(begin % round / kLanes);
    uint32_t *state = state_ + s * kLanes;
    uint16_t *word = word_[s];
    for (int64_t i = end - 1; i >= begin; i--) {
      const uint32_t f = codes[i] & 0xFFFF;
      uint32_t x = state[i - begin];
      const bool full = x >= f << 20;
      word[-1] = static_cast<uint16_t>(x);
      word -= full ? 1 : 0;
      x = full ? x >> 16 : x;
      const uint32_t quotient = static_cast<uint32_t>(static_cast<int64_t>(x * inverse[f]));
      state[i - begin] = x + quotient * (kSlots - f) + (codes[i] >> 16);
    }
    word_[s] = word;
    end = begin;
  }
}

void RansEncoder::encode(const RansPass *passes, int32_t count, int32_t substreams) {
  int64_t symbols = 0;
  for (int32_t p = 0; p < count; p++) symbols += passes[p].count;
  codes_.resize(static_cast<size_t>(symbols));
  side_.clear();
  checksum_ = 0;
  int64_t cost = 0;
  int64_t at = 0;
  for (int32_t p = 0; p < count; p++) {
    cost += map(passes[p], codes_.data() + at);
    at += passes[p].count;
  }
  if (substreams == 0) {
    const int64_t bytes = (cost / 256 + side_.count()) / 8;
    substreams = static_cast<int32_t>(
        std::clamp<int64_t>((bytes + kBytesPerSubstream / 2) / kBytesPerSubstream, 1, kMaxSubstreams));
  }

  // A substream gets at most a word a symbol; one more is written before it is known whether it is needed.
  const int64_t round = int64_t{substreams} * kLanes;
  int64_t rounds = 0;
  for (int32_t p = 0; p < count; p++) rounds += (passes[p].count + round - 1) / round;
  const int64_t room = rounds * kLanes + 1;
  words_.resize(static_cast<size_t>(room * substreams));
  for (int32_t s = 0; s < substreams; s++) word_[s] = words_.data() + (s + 1) * room;
  std::fill(state_, state_ + substreams * kLanes, kStateLow);
  for (int32_t p = count - 1; p >= 0; p--) {
    at -= passes[p].count;
    code(passes[p], codes_.data() + at, substreams);
  }

  head_.clear();
  for (int32_t i = 0; i < substreams * kLanes; i++) {
    const int32_t more = floor_log2(state_[i]) - 16;
    head_.put(static_cast<uint32_t>(more), 4);
    head_.put(state_[i] & 0xFFFF, 16);
    head_.put((state_[i] >> 16) & ((1u << more) - 1), more);
  }
  head_.append(side_);
  payload_.clear();
  payload_.push_back(static_cast<uint8_t>(substreams - 1));
  put_varint(&payload_, (head_.count() + 7) / 8);
  for (int32_t s = 0; s + 1 < substreams; s++) put_varint(&payload_, words_.data() + (s + 1) * room - word_[s]);
  head_.finish(&payload_);
  for (int32_t s = 0; s < substreams; s++) {
    const uint8_t *from = reinterpret_cast<const uint8_t *>(word_[s]);
    const uint8_t *to = reinterpret_cast<const uint8_t *>(words_.data() + (s + 1) * room);
    payload_.insert(payload_.end(), from, to);
  }
}

}  // namespace comneck
