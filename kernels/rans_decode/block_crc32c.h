// CRC32C of 16-bit symbols by all threads of a block: a thread takes one run of them, and the runs are put together.
#ifndef COMNECK_KERNELS_BLOCK_CRC32C_H
#define COMNECK_KERNELS_BLOCK_CRC32C_H

#include "device.h"

namespace comneck::cuda {

// Polynomials over GF(2) modulo CRC32C's, reflected: bit 31 is 1, bit 30 is x, ...
constexpr uint32_t kCrcPolynomial = 0x82F63B78u;

__device__ inline uint32_t crc_multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (int i = 31; i >= 0; i--) {
    if ((a >> i & 1u) != 0) product ^= b;
    b = b >> 1 ^ ((b & 1u) != 0 ? kCrcPolynomial : 0u);
  }
  return product;
}

// x^(8 bytes)
__device__ inline uint32_t crc_shift_by(int64_t bytes) {
  uint32_t power = 0x80000000u;
  uint32_t square = 0x80000000u >> 8;
  for (; bytes > 0; bytes /= 2) {
    if ((bytes & 1) != 0) power = crc_multiply(power, square);
    square = crc_multiply(square, square);
  }
  return power;
}

// Of symbol_at(0), symbol_at(1), ..., little-endian; a thread asks in ascending order. Every thread of the block calls it; thread 0 gets the
// result, the others anything. step: 256 words of shared memory, part: kThreads. Begins and ends with a barrier's worth of order: step and
// part may be used again after the caller's next barrier.
//
// The symbols fall into one run for each thread, all of one length but the first ones, which are shorter or empty: the remainder of a
// sequence is that of its first part times x^(8 * bytes of the rest), plus that of the rest, and zeros in front change nothing.
template <int32_t kThreads, class SymbolAt>
__device__ uint32_t block_crc32c(int64_t symbol_count, const SymbolAt &symbol_at, uint32_t *step, uint32_t *part) {
  static_assert(kThreads >= 256 && (kThreads & (kThreads - 1)) == 0);
  const int32_t t = static_cast<int32_t>(threadIdx.x);
  if (t < 256) {
    uint32_t byte = static_cast<uint32_t>(t);
    for (int i = 0; i < 8; i++) byte = byte >> 1 ^ ((byte & 1u) != 0 ? kCrcPolynomial : 0u);
    step[t] = byte;
  }
  __syncthreads();

  const int64_t run = (symbol_count + kThreads - 1) / kThreads;
  const int64_t to = symbol_count - (kThreads - 1 - t) * run;
  uint32_t crc = 0;
  for (int64_t i = max(int64_t{0}, to - run); i < to; i++) {
    const uint32_t symbol = static_cast<uint16_t>(symbol_at(i));
    crc = crc >> 8 ^ step[(crc ^ symbol) & 0xFFu];
    crc = crc >> 8 ^ step[(crc ^ symbol >> 8) & 0xFFu];
  }
  part[t] = crc;
  uint32_t power = crc_shift_by(2 * run);
  for (int32_t width = 1; width < kThreads; width *= 2) {
    __syncthreads();
    if (t % (2 * width) == 0) part[t] = crc_multiply(part[t], power) ^ part[t + width];
    power = crc_multiply(power, power);
  }
  return ~(crc_multiply(~0u, crc_shift_by(2 * symbol_count)) ^ part[t]);
}

}  // namespace comneck::cuda

#endif
