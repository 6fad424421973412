// Buffers of the kernels' tests: rows of channels in F32, BF16 or F16, with elements beside them that nobody may touch, filled with what is hard.
#ifndef COMNECK_KERNELS_STRIDED_BUFFER_H
#define COMNECK_KERNELS_STRIDED_BUFFER_H

#include <bit>
#include <cmath>
#include <cstring>

#include "backend/bits.h"
#include "device_array.h"
#include "elements.h"
#include "rans_symbols.h"

namespace comneck::cuda {

// Zeros of both signs, subnormals, large ones, and mostly ordinary ones; where unbounded also infinities and NaN.
inline float hard_value(Random *random, bool unbounded) {
  const uint32_t bits = static_cast<uint32_t>(random->next());
  switch (random->below(unbounded ? 24 : 21)) {
    case 0: return 0.0f;
    case 1: return -0.0f;
    case 2: return std::bit_cast<float>(bits & 0x807FFFFFu);
    case 3: return std::bit_cast<float>((bits & 0x807FFFFFu) | 0x44000000u);
    case 21: return std::bit_cast<float>((bits & 0x80000000u) | 0x7F800000u);
    case 22: return std::bit_cast<float>(bits | 0x7FC00000u);
    case 23: return std::bit_cast<float>((bits & 0x807FFFFFu) | 0x7F000000u);
    default: return static_cast<float>(random->uniform() * 4 - 2);
  }
}

struct StridedBuffer {
  StridedBuffer(Random *random, int64_t rows, int32_t channels, int32_t stored, bool unbounded)
      : type(stored), before(static_cast<int32_t>(random->below(3))), stride(before + channels + static_cast<int32_t>(random->below(3))) {
    for (int64_t i = 0; i < rows * stride; i++) put(hard_value(random, unbounded));
  }

  void put(float value) {
    bytes.resize(bytes.size() + static_cast<size_t>(size()));
    set(static_cast<int64_t>(bytes.size()) / size() - 1, value);
  }
  // Element i of memory, gaps included.
  void set(int64_t i, float value) {
    const uint16_t half = type == COMNECK_F16 ? to_f16(value) : to_bf16(value);
    std::memcpy(bytes.data() + i * size(), type == COMNECK_F32 ? static_cast<const void *>(&value) : &half, static_cast<size_t>(size()));
  }
  void set(int64_t row, int32_t c, float value) { set(row * stride + before + c, value); }
  float get(int64_t row, int32_t c) const { return std::bit_cast<float>(bits(bytes, static_cast<size_t>(row * stride + before + c))); }
  int64_t size() const { return type == COMNECK_F32 ? 4 : 2; }
  uint8_t *data() { return bytes.data() + before * size(); }
  Side side(uint8_t *device) const { return {device + before * size(), stride, type}; }

  // Bits of element i of memory, gaps included; every NaN is the same one.
  uint32_t bits(const std::vector<uint8_t> &memory, size_t i) const {
    uint32_t value = 0;
    std::memcpy(&value, memory.data() + i * static_cast<size_t>(size()), static_cast<size_t>(size()));
    const uint32_t widened = type == COMNECK_F32   ? value
                             : type == COMNECK_F16 ? std::bit_cast<uint32_t>(from_f16(static_cast<uint16_t>(value)))
                                                   : value << 16;
    return std::isnan(std::bit_cast<float>(widened)) ? 0x7FC00000u : widened;
  }
  void check_same(const std::vector<uint8_t> &expected, const std::vector<uint8_t> &found, const char *what) const {
    CHECK(expected.size() == found.size());
    for (size_t i = 0; i < expected.size() / static_cast<size_t>(size()); i++) {
      if (bits(expected, i) == bits(found, i)) continue;
      std::fprintf(stderr, "%s: element %zu, stride %d, %d before: %08x, expected %08x\n", what, i, stride, before, bits(found, i), bits(expected, i));
      CHECK(bits(expected, i) == bits(found, i));
    }
  }

  int32_t type;
  int32_t before;
  int32_t stride;
  std::vector<uint8_t> bytes;
};

}  // namespace comneck::cuda

#endif
