#include "entropy/payload_head.h"

#include <algorithm>
#include <bit>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace comneck {
namespace {

static_assert(std::endian::native == std::endian::little, "words and bits are read as they lie in memory");

// Little-endian base-128, at most 31 bits, shortest form only. Advances *at past it; false where it is not one.
bool read_varint(const uint8_t *payload, int64_t bytes, int64_t *at, int64_t *value) {
  uint64_t sum = 0;
  for (int shift = 0; shift < 35; shift += 7) {
    if (*at == bytes) return false;
    const uint8_t b = payload[(*at)++];
    sum |= static_cast<uint64_t>(b & 0x7F) << shift;
    if (b < 0x80) {
      *value = static_cast<int64_t>(sum);
      return sum <= INT32_MAX && (b != 0 || shift == 0);
    }
  }
  return false;
}

// The next count <= 16 bits of a section, lowest first.
bool read_bits(const uint8_t *section, int64_t section_bytes, int64_t *bit, int32_t count, uint32_t *value) {
  if (8 * section_bytes - *bit < count) return false;
  uint32_t four = 0;
  std::memcpy(&four, section + *bit / 8, static_cast<size_t>(std::min<int64_t>(4, section_bytes - *bit / 8)));
  *value = (four >> (*bit % 8)) & ((1u << count) - 1);
  *bit += count;
  return true;
}

}  // namespace

bool PayloadDamage::set(int64_t at, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  offset = at;
  return false;
}

// byte 0: substreams - 1 | varint: bytes of the bit section | varints: words of each substream but the last | bits | words
bool read_payload_head(const uint8_t *payload, int64_t bytes, PayloadHead *head, PayloadDamage *damage) {
  if (bytes <= 0) return damage->set(0, "the payload is empty");
  head->substreams = (payload[0] & 0x1F) + 1;
  if ((payload[0] & 0xE0) != 0) return damage->set(0, "the payload's first byte has bits that must be 0");
  int64_t at = 1;
  if (!read_varint(payload, bytes, &at, &head->bit_bytes)) {
    return damage->set(at, "a length in the payload's head is not possible");
  }
  int64_t total = 0;
  for (int32_t s = 0; s + 1 < head->substreams; s++) {
    if (!read_varint(payload, bytes, &at, &head->words[s])) {
      return damage->set(at, "a length in the payload's head is not possible");
    }
    total += head->words[s];
  }
  const int64_t left = bytes - at - head->bit_bytes - 2 * total;
  if (left < 0 || left % 2 != 0) {
    return damage->set(at, "the payload's sections do not add up to its %lld bytes", static_cast<long long>(bytes));
  }
  head->words[head->substreams - 1] = left / 2;
  head->bits_offset = at;
  int64_t from = at + head->bit_bytes;
  for (int32_t s = 0; s < head->substreams; s++) {
    head->words_offset[s] = from;
    from += 2 * head->words[s];
  }

  head->side_bit = 0;
  for (int32_t i = 0; i < head->substreams * kLanes; i++) {
    const uint8_t *section = payload + head->bits_offset;
    uint32_t more = 0, low = 0, high = 0;
    if (!read_bits(section, head->bit_bytes, &head->side_bit, 4, &more) ||
        !read_bits(section, head->bit_bytes, &head->side_bit, 16, &low) ||
        !read_bits(section, head->bit_bytes, &head->side_bit, static_cast<int32_t>(more), &high)) {
      return damage->set(head->bits_offset + head->bit_bytes, "the payload's bit section is too short");
    }
    head->state[i] = ((1u << more) | high) << 16 | low;
  }
  return true;
}

}  // namespace comneck
