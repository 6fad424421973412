// rANS decoding of many images, pass by pass (docs/format.md): the twin of src/main/cpp/entropy/rans_decoder.h, the same symbols.
//
//   parameters (n,p,2C), payload  ->  scale index, symbol, dequantised latent, scattered to the full grid
//
// The host checks the payload's head (read_payload_head) and lays out what the device reads; from there on nothing that the bytes say
// makes the device read or write elsewhere: words and bits beyond a section's end read as 0 and are reported for that image.
#ifndef COMNECK_KERNELS_RANS_DECODE_H
#define COMNECK_KERNELS_RANS_DECODE_H

#include <vector>

#include "device.h"
#include "entropy/payload_head.h"
#include "entropy/rans_tables.h"

namespace comneck::cuda {

enum class RansError : int32_t {
  kNone = 0,
  kHead,          // the host found it; the device skips the image
  kWordsMissing,  // a substream ended too early
  kBitsMissing,   // the bit section ended too early
  kEscape,        // an escape exceeds 16 bits
  kWordsLeft,     // a substream holds more than its symbols
  kState,         // a lane does not end where encoding began
  kBitsLeft       // the bit section holds more than its symbols
};

// One image: written by the host before the first pass, kept on the device through all of them.
struct RansImage {
  uint32_t state[kMaxSubstreams * kLanes];
  int32_t word[kMaxSubstreams];       // next word of each substream, from words_first
  int32_t word_begin[kMaxSubstreams];
  int32_t word_end[kMaxSubstreams];
  int64_t words_first;                // of the image in the words of the batch
  int64_t bits_first;                 // likewise, bytes of the bit sections
  int64_t bit;                        // next side bit of the image's section
  int64_t bit_end;
  int32_t substreams;
  RansError error;
  int32_t where;       // substream of the error; of kState: 8 * substream + lane
  uint32_t checksum;   // of all symbols, after rans_finish
};
static_assert(sizeof(RansImage) == 1024 + 3 * 128 + 4 * 8 + 4 * 4);

// Coding tables as the device reads them, one block of memory: RansTableShape[tables] | starts, 16 bits each | buckets[tables][64].
struct RansTableShape {
  int32_t first;   // smallest coded (shifted) value
  int32_t count;   // coded values; the symbol of this number is the escape
  int32_t shift;
  int32_t starts;  // where the table's count + 2 starts begin; the last one is 4096
};
constexpr int32_t kBuckets = 64;  // bucket b: the symbol at slot 64 b, from where the search goes on

struct RansTablesLayout {
  int32_t tables;
  int32_t starts_bytes;   // offset of the starts
  int32_t buckets_bytes;  // offset of the buckets
  int32_t bytes;
};

// Host: packs tables for the device.
RansTablesLayout pack_device_tables(const RansTables &tables, std::vector<uint8_t> *packed);

struct RansDecodeCall {
  RansImage *images;      // device
  int32_t image_count;
  const uint16_t *words;  // device, all images
  const uint8_t *bits;    // device, all images, each section followed by 8 bytes
  const uint8_t *tables;  // device: pack_device_tables
  RansTablesLayout layout;

  // The coded grid: positions in raster order, channels innermost, are the symbols in coding order.
  int32_t grid;  // COMNECK_FULL, ...
  int32_t height;
  int32_t width;
  int32_t positions;
  int32_t channels;

  // Gaussian: mean (n, p, c) at means[(n * positions + p) * means_stride + c], its scale `channels` further; table = how many of the
  // thresholds are smaller than the scale. Factorized (thresholds null): mean c at means[c], table c.
  const float *means;
  int64_t means_stride;
  const float *thresholds;  // ascending
  int32_t threshold_count;

  int16_t *symbols;  // (n, p, c) at (n * positions + p) * symbols_stride + c
  int64_t symbols_stride;
  float *hat;        // (n, position on the full grid, c), likewise
  int64_t hat_stride;

  uint8_t *indices;        // scratch: image_count x positions x channels
  int16_t *coded;          // image n's symbols of this pass, in coding order, begin at coded + n * coded_stride
  int64_t coded_stride;
};

// One pass of every image. An image with an error gets zeros for symbols and keeps the first error. images_per_block: 1 for few images
// (latency), 4 for many (a warp then holds substreams of several images).
cudaError_t rans_decode(const RansDecodeCall &call, int32_t images_per_block, cudaStream_t stream);

// After the last pass: every state is 2^16, every word used, fewer than 8 bits left, all 0. checksum = CRC32C of the image's
// symbols[0 .. symbol_count) in coded.
cudaError_t rans_finish(RansImage *images, int32_t image_count, const uint8_t *bits, const int16_t *coded, int64_t coded_stride,
                        int64_t symbol_count, cudaStream_t stream);

}  // namespace comneck::cuda

#endif
