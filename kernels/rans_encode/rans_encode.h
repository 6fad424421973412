// rANS encoding of many images: the twin of src/main/cpp/entropy/rans_encoder.h, the same bytes (docs/format.md).
//
//   symbols and their tables, pass by pass  ->  payload, checksum of the symbols
//
// One launch. The number of substreams is chosen on the device, where the caller leaves it open; nothing is sent back in between.
#ifndef COMNECK_KERNELS_RANS_ENCODE_H
#define COMNECK_KERNELS_RANS_ENCODE_H

#include <vector>

#include "device.h"
#include "entropy/rans_lanes.h"
#include "entropy/rans_tables.h"

namespace comneck::cuda {

// Coding tables as the encoder reads them, sets one after the other; offsets in bytes from the block's begin.
struct RansEncodeTables {
  int32_t shapes;  // RansTableShape[tables]
  int32_t starts;  // 16 bits each
  int32_t tables;
};

// Host: appends a set of tables to a block of them. Where it lies is the result.
RansEncodeTables append_encode_tables(const RansTables &tables, std::vector<uint8_t> *block);

// Symbols that share a set of tables: image n's are values[n * values_stride + i], in coding order.
struct RansEncodePass {
  RansEncodeTables tables;
  int32_t count;          // of an image
  int64_t first;          // symbols of an image in the passes before
  const uint8_t *indices;  // device; one without a table is reported
  int64_t indices_stride;  // 0: all images have the same
  const int16_t *values;   // device
  int64_t values_stride;
};

// What came of an image.
struct RansEncoded {
  int64_t bytes;        // of the payload, needed even where it did not fit
  uint32_t checksum;    // CRC32C of the symbols
  int32_t substreams;
  int32_t overflowed;   // 1: the payload did not fit its room, of which nothing was written
  int32_t no_table;     // 1: an index has no table, so that the payload is of no use
};

struct RansEncodeCall {
  int32_t image_count;
  int32_t substreams;            // 1 to 32 of each image, or 0 for one in about 2 KiB
  const RansEncodePass *passes;  // device, in the order of decoding
  int32_t pass_count;
  int64_t symbols;               // of an image, all passes
  const uint8_t *tables;         // device: append_encode_tables
  int32_t tables_bytes;          // a multiple of 16
  uint8_t *payloads;             // device: image n's begins at n * payload_room
  int64_t payload_room;          // bytes
  uint16_t *words;               // device, scratch: image_count x word_room
  int64_t word_room;             // rans_encode_words
  uint32_t *side;                // device, scratch: image_count x side_room
  int64_t side_room;             // 32-bit words: rans_encode_side
  RansEncoded *encoded;          // device
};

// Scratch of an image: a word for each symbol, and what rounding to whole steps of all substreams adds.
constexpr int64_t rans_encode_words(int64_t symbols, int32_t passes) { return symbols + int64_t{passes} * kMaxSubstreams * kLanes; }
// Side bits that do not fit here do not fit the payload.
constexpr int64_t rans_encode_side(int64_t payload_room) { return payload_room / 4 + 1; }

// images_per_block: 1 for few images (latency), 4 for many (a warp then holds substreams of several images).
cudaError_t rans_encode(const RansEncodeCall &call, int32_t images_per_block, cudaStream_t stream);

}  // namespace comneck::cuda

#endif
