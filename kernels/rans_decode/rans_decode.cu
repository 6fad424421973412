// A block takes one image or a few and has four stages, each with all threads, so that the serial one in the middle waits for nothing:
//   1. table of every symbol (64 comparisons' worth of binary search, out of the serial part);
//   2. the lanes: eight threads are one substream, a warp four of them, of one image or of several;
//   3. slow symbols (escapes, low bits of wide tables): one warp an image, 32 symbols at a time, in order;
//   4. dequantisation and scatter.
#include "rans_decode/rans_decode.h"

#include <cstring>

#include "comneck.h"
#include "grids.h"
#include "rans_decode/block_crc32c.h"

namespace comneck::cuda {

RansTablesLayout pack_device_tables(const RansTables &tables, std::vector<uint8_t> *packed) {
  const auto n = static_cast<size_t>(tables.tables);
  std::vector<RansTableShape> shapes(n);
  std::vector<uint16_t> starts;
  std::vector<uint8_t> buckets(n * kBuckets);
  for (size_t t = 0; t < n; t++) {
    const RansTables::Shape &shape = tables.shapes[t];
    shapes[t] = {shape.first, shape.count, shape.shift, static_cast<int32_t>(starts.size())};
    const uint16_t *from = tables.starts.data() + t * (kTableSymbols + 1);
    starts.insert(starts.end(), from, from + shape.count + 1);
    starts.push_back(kSlots);
    int32_t q = 0;
    for (int32_t b = 0; b < kBuckets; b++) {
      while (q < shape.count && from[q + 1] <= b * (kSlots / kBuckets)) q++;
      buckets[t * kBuckets + static_cast<size_t>(b)] = static_cast<uint8_t>(q);
    }
  }
  RansTablesLayout layout{};
  layout.tables = tables.tables;
  layout.starts_bytes = static_cast<int32_t>(n * sizeof(RansTableShape));
  layout.buckets_bytes = layout.starts_bytes + static_cast<int32_t>(starts.size() * 2);
  layout.bytes = (layout.buckets_bytes + static_cast<int32_t>(buckets.size()) + 15) / 16 * 16;
  packed->assign(static_cast<size_t>(layout.bytes), 0);
  std::memcpy(packed->data(), shapes.data(), n * sizeof(RansTableShape));
  std::memcpy(packed->data() + layout.starts_bytes, starts.data(), starts.size() * 2);
  std::memcpy(packed->data() + layout.buckets_bytes, buckets.data(), buckets.size());
  return layout;
}

namespace {

constexpr int32_t kThreads = 256;
constexpr int32_t kMostImages = 4;  // of a block
constexpr int32_t kMostThresholds = 255;
constexpr unsigned kAll = 0xFFFFFFFFu;
// Larger tables stay in global memory, so that no device needs an opt-in and four blocks share a multiprocessor.
constexpr int32_t kMostTableBytes = 40 << 10;

static_assert(kSlots / kBuckets == 64 && kThreads / 32 >= kMostImages);

struct Found {
  int32_t q;
  int32_t start;
  int32_t frequency;
};

struct Tables {
  const RansTableShape *shapes;
  const uint16_t *starts;
  const uint8_t *buckets;

  __device__ Found find(int32_t table, int32_t slot) const {
    const uint16_t *from = starts + shapes[table].starts;
    int32_t q = buckets[table * kBuckets + (slot >> 6)];
    while (from[q + 1] <= slot) q++;
    return {q, from[q], from[q + 1] - from[q]};
  }
};

__device__ inline uint32_t read_bits(const uint8_t *section, int64_t bit, int32_t count) {
  const uint8_t *at = section + bit / 8;
  const uint32_t three = static_cast<uint32_t>(at[0]) | static_cast<uint32_t>(at[1]) << 8 | static_cast<uint32_t>(at[2]) << 16;
  return (three >> (bit % 8)) & ((1u << count) - 1u);
}

// Number of ascending thresholds below x; 0 for a NaN.
__device__ inline int32_t count_below(const float *thresholds, int32_t count, float x) {
  int32_t low = 0;
  int32_t high = count;
  while (low < high) {
    const int32_t middle = (low + high) / 2;
    if (thresholds[middle] < x) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// Stage 2 for the four groups of a warp. groups: images' substreams one after the other.
__device__ void decode_lanes(const RansDecodeCall &call, const Tables &tables, RansImage *images, int32_t image_count,
                             int64_t first_image, int32_t first_group, int32_t count, int32_t *short_substream, int32_t *slow) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x % 32);
  const int32_t l = lane % kLanes;
  int32_t s = first_group + lane / kLanes;  // becomes the substream of image k
  int32_t k = 0;
  while (k < image_count) {
    const int32_t substreams = images[k].error == RansError::kNone ? images[k].substreams : 0;
    if (s < substreams) break;
    s -= substreams;
    k++;
  }
  const bool present = k < image_count;
  RansImage *image = images + (present ? k : 0);
  const int32_t substreams = present ? image->substreams : 1;
  const int32_t eights = (count + kLanes - 1) / kLanes;
  const int32_t rounds = present && s < eights ? (eights - s + substreams - 1) / substreams : 0;
  const int32_t most_rounds = static_cast<int32_t>(__reduce_max_sync(kAll, static_cast<unsigned>(rounds)));

  uint32_t x = present ? image->state[s * kLanes + l] : kStateLow;
  int32_t cursor = present ? image->word[s] : 0;
  const int32_t end = present ? image->word_end[s] : 0;
  const uint16_t *words = call.words + (present ? image->words_first : 0);
  const int64_t base = first_image + k;
  const uint8_t *indices = call.indices + base * count;
  int16_t *coded = call.coded + base * call.coded_stride;
  bool any_slow = false;

  for (int32_t r = 0; r < most_rounds; r++) {
    const int32_t i = (r * substreams + s) * kLanes + l;
    const bool active = r < rounds && i < count;
    bool refill = false;
    if (active) {
      const int32_t table = indices[i];
      const int32_t slot = static_cast<int32_t>(x & (kSlots - 1));
      const Found found = tables.find(table, slot);
      const RansTableShape shape = tables.shapes[table];
      x = static_cast<uint32_t>(found.frequency) * (x >> kPrecision) + static_cast<uint32_t>(slot - found.start);
      refill = x < kStateLow;
      const int32_t value = shape.first + found.q;
      const bool is_slow = shape.shift != 0 || found.q == shape.count || value < kSlowEnd;
      any_slow = any_slow || is_slow;
      coded[i] = static_cast<int16_t>(is_slow ? kSlowMark + slot : value);
    }
    const unsigned takers = __ballot_sync(kAll, refill ? 1 : 0) >> (lane & ~(kLanes - 1)) & 0xFFu;
    if (refill) {
      const int32_t at = cursor + __popc(takers & ((1u << l) - 1u));
      const uint32_t word = at < end ? words[at] : 0u;
      x = x << 16 | word;
    }
    cursor += __popc(takers);
  }

  if (present) {
    image->state[s * kLanes + l] = x;
    if (l == 0) {
      image->word[s] = cursor < end ? cursor : end;
      if (cursor > end) atomicMin(short_substream + k, s);
    }
    if (any_slow) slow[k] = 1;  // every writer writes the same
  }
}

// Stage 3 for one image: marks become values, side bits are read in symbol order. All lanes agree on everything but their own symbol.
__device__ void settle(const RansDecodeCall &call, const Tables &tables, RansImage *image, const uint8_t *indices, int16_t *coded,
                       int32_t count) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x % 32);
  const uint8_t *section = call.bits + image->bits_first;
  const int64_t bit_end = image->bit_end;
  int64_t bit = image->bit;
  RansError error = RansError::kNone;
  for (int32_t base = 0; base < count && error == RansError::kNone; base += 32) {
    const int32_t i = base + lane;
    const int32_t mark = i < count ? coded[i] : 0;
    bool marked = mark < kSlowEnd;
    unsigned left = __ballot_sync(kAll, marked ? 1 : 0);
    if (left == 0) continue;
    const int32_t table = marked ? indices[i] : 0;
    const RansTableShape shape = tables.shapes[table];
    const int32_t q = marked ? tables.find(table, mark - kSlowMark).q : 0;
    unsigned escapes = __ballot_sync(kAll, marked && q == shape.count ? 1 : 0);
    while (left != 0) {
      // What lies before the next escape has a known number of bits: all at once.
      const int32_t escape = escapes == 0 ? 32 : __ffs(static_cast<int>(escapes)) - 1;
      const bool mine = marked && lane < escape;
      const int32_t width = mine ? shape.shift : 0;
      int32_t sum = width;
      for (unsigned step = 1; step < 32; step *= 2) {
        const int32_t before = __shfl_up_sync(kAll, sum, step);
        if (lane >= static_cast<int32_t>(step)) sum += before;
      }
      const int32_t total = __shfl_sync(kAll, sum, 31);
      if (bit_end - bit < total) {
        error = RansError::kBitsMissing;
        break;
      }
      if (mine) {
        const uint32_t low = read_bits(section, bit + sum - width, width);
        coded[i] = static_cast<int16_t>((shape.first + q) * (1 << shape.shift) + static_cast<int32_t>(low));
        marked = false;
      }
      bit += total;
      if (escape == 32) break;

      // The escape: 1 bit for the side, then an Elias gamma code. Every lane reads it.
      const int64_t begin = bit;
      const int32_t first = __shfl_sync(kAll, shape.first, escape);
      const int32_t values = __shfl_sync(kAll, shape.count, escape);
      const int32_t shift = __shfl_sync(kAll, shape.shift, escape);
      if (bit_end - bit < 1) {
        error = RansError::kBitsMissing;
        break;
      }
      const bool below = read_bits(section, bit++, 1) != 0;
      int32_t zeros = 0;
      bool one = false;
      while (zeros <= 16 && bit < bit_end) {
        one = read_bits(section, bit++, 1) != 0;
        if (one) break;
        zeros++;
      }
      if (zeros > 16) {
        bit = begin;
        error = RansError::kEscape;
        break;
      }
      if (!one || bit_end - bit < zeros) {
        error = RansError::kBitsMissing;
        break;
      }
      const int32_t distance = static_cast<int32_t>(1u << zeros | read_bits(section, bit, zeros));
      bit += zeros;
      const int32_t lowest = first * (1 << shift);
      const int32_t highest = (first + values) * (1 << shift) - 1;
      const int32_t value = below ? lowest - distance : highest + distance;
      if (value < -32768 || value > 32767) {
        bit = begin;
        error = RansError::kEscape;
        break;
      }
      if (lane == escape) {
        coded[i] = static_cast<int16_t>(value);
        marked = false;
      }
      escapes &= escapes - 1;
      left = __ballot_sync(kAll, marked ? 1 : 0);
    }
  }
  if (lane == 0) {
    image->bit = bit;
    if (error != RansError::kNone) image->error = error;
  }
}

__global__ void __launch_bounds__(kThreads) decode_pass(RansDecodeCall call, int32_t images_per_block, int32_t shared_table_bytes) {
  COMNECK_DYNAMIC_SHARED(uint4, shared_tables);
  COMNECK_SHARED(thresholds, float[kMostThresholds]);
  COMNECK_SHARED(short_substream, int32_t[kMostImages]);
  COMNECK_SHARED(slow, int32_t[kMostImages]);
  const int32_t t = static_cast<int32_t>(threadIdx.x);
  const int64_t first_image = int64_t{blockIdx.x} * images_per_block;
  const int32_t here = static_cast<int32_t>(min(int64_t{images_per_block}, call.image_count - first_image));
  RansImage *images = call.images + first_image;
  const int32_t count = call.positions * call.channels;
  const int64_t all = int64_t{here} * count;
  const bool gaussian = call.thresholds != nullptr;

  for (int32_t i = t; i < shared_table_bytes / 16; i += kThreads) shared_tables[i] = reinterpret_cast<const uint4 *>(call.tables)[i];
  if (gaussian) {
    for (int32_t i = t; i < call.threshold_count; i += kThreads) thresholds[i] = call.thresholds[i];
  }
  if (t < kMostImages) {
    short_substream[t] = INT32_MAX;
    slow[t] = 0;
  }
  __syncthreads();
  const uint8_t *table_bytes = shared_table_bytes > 0 ? reinterpret_cast<const uint8_t *>(shared_tables) : call.tables;
  const Tables tables{reinterpret_cast<const RansTableShape *>(table_bytes),
                      reinterpret_cast<const uint16_t *>(table_bytes + call.layout.starts_bytes),
                      table_bytes + call.layout.buckets_bytes};

  // 1. table of each symbol
  for (int64_t j = t; j < all; j += kThreads) {
    const int32_t c = static_cast<int32_t>(j % call.channels);
    int32_t index = c;
    if (gaussian) {
      const int64_t row = first_image * call.positions + j / call.channels;
      index = count_below(thresholds, call.threshold_count, call.means[row * call.means_stride + call.channels + c]);
    }
    call.indices[first_image * count + j] = static_cast<uint8_t>(index);
  }
  __syncthreads();

  // 2. lanes
  int32_t groups = 0;
  for (int32_t k = 0; k < here; k++) groups += images[k].error == RansError::kNone ? images[k].substreams : 0;
  for (int32_t group = t / 32 * 4; group < groups; group += kThreads / kLanes) {
    decode_lanes(call, tables, images, here, first_image, group, count, short_substream, slow);
  }
  __syncthreads();

  // 3. slow symbols
  const int32_t mine = t / 32;
  if (mine < here && images[mine].error == RansError::kNone) {
    RansImage *image = images + mine;
    const int64_t n = first_image + mine;
    if (short_substream[mine] != INT32_MAX) {
      __syncwarp();  // every lane has read image->error
      if (t % 32 == 0) {
        image->error = RansError::kWordsMissing;
        image->where = short_substream[mine];
      }
    } else if (slow[mine] != 0) {
      settle(call, tables, image, call.indices + n * count, call.coded + n * call.coded_stride, count);
    }
  }
  __syncthreads();

  // 4. values: (n, p, c) -> its place on the full grid
  for (int64_t j = t; j < all; j += kThreads) {
    const int32_t k = static_cast<int32_t>(j / count);
    const int32_t i = static_cast<int32_t>(j % count);
    const int32_t p = i / call.channels;
    const int32_t c = i % call.channels;
    const int64_t n = first_image + k;
    int16_t *coded = call.coded + n * call.coded_stride + i;
    const int16_t symbol = images[k].error == RansError::kNone ? *coded : int16_t{0};
    *coded = symbol;
    const int64_t row = n * call.positions + p;
    const float mean = gaussian ? call.means[row * call.means_stride + c] : call.means[c];
    call.symbols[row * call.symbols_stride + c] = symbol;
    const Place place = place_of(call.grid, call.width, p);
    const int64_t full = (n * call.height + place.y) * call.width + place.x;
    call.hat[full * call.hat_stride + c] = static_cast<float>(symbol) + mean;
  }
}

// ------------------------------------------------------------------------------------------------------------------------------- the end

__global__ void __launch_bounds__(kThreads) finish_images(RansImage *images, const uint8_t *bits, const int16_t *coded, int64_t coded_stride,
                                                          int64_t symbol_count) {
  COMNECK_SHARED(step, uint32_t[256]);
  COMNECK_SHARED(part, uint32_t[kThreads]);
  COMNECK_SHARED(wrong, int32_t[1]);
  const int32_t t = static_cast<int32_t>(threadIdx.x);
  RansImage *image = images + blockIdx.x;
  const int16_t *symbols = coded + int64_t{blockIdx.x} * coded_stride;
  if (t == 0) wrong[0] = INT32_MAX;
  const uint32_t checksum = block_crc32c<kThreads>(symbol_count, [&](int64_t i) { return symbols[i]; }, step, part);

  if (image->error == RansError::kNone && t < image->substreams * kLanes) {
    const int32_t s = t / kLanes;
    // in the order in which the processor's decoder looks: a substream's words, then its lanes
    if (image->state[t] != kStateLow) atomicMin(wrong, s * (kLanes + 1) + 1 + t % kLanes);
    if (t % kLanes == 0 && image->word[s] != image->word_end[s]) atomicMin(wrong, s * (kLanes + 1));
  }
  __syncthreads();
  if (t == 0) {
    image->checksum = checksum;
    if (image->error == RansError::kNone) {
      const int64_t left = image->bit_end - image->bit;
      if (wrong[0] != INT32_MAX) {
        const int32_t s = wrong[0] / (kLanes + 1);
        const int32_t lane = wrong[0] % (kLanes + 1) - 1;
        image->error = lane < 0 ? RansError::kWordsLeft : RansError::kState;
        image->where = lane < 0 ? s : s * kLanes + lane;
      } else if (left >= 8 || read_bits(bits + image->bits_first, image->bit, static_cast<int32_t>(left)) != 0) {
        image->error = RansError::kBitsLeft;
      }
    }
  }
}

}  // namespace

cudaError_t rans_decode(const RansDecodeCall &call, int32_t images_per_block, cudaStream_t stream) {
  const bool fits = call.threshold_count <= kMostThresholds && call.threshold_count < call.layout.tables;
  const bool covered = call.thresholds != nullptr ? fits : call.channels <= call.layout.tables;
  if (call.image_count < 0 || call.positions < 0 || call.channels < 1 || images_per_block < 1 || images_per_block > kMostImages ||
      int64_t{call.positions} * call.channels > INT32_MAX / 2 || !covered) {
    return cudaErrorInvalidValue;
  }
  if (call.image_count == 0 || call.positions == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((call.image_count + images_per_block - 1) / images_per_block);
  const int32_t shared = call.layout.bytes <= kMostTableBytes ? call.layout.bytes : 0;
  return launch(decode_pass, blocks, kThreads, static_cast<size_t>(shared), stream, call, images_per_block, shared);
}

cudaError_t rans_finish(RansImage *images, int32_t image_count, const uint8_t *bits, const int16_t *coded, int64_t coded_stride,
                        int64_t symbol_count, cudaStream_t stream) {
  if (image_count < 0 || symbol_count < 0) return cudaErrorInvalidValue;
  if (image_count == 0) return cudaSuccess;
  return launch(finish_images, static_cast<unsigned>(image_count), kThreads, 0, stream, images, bits, coded, coded_stride, symbol_count);
}

}  // namespace comneck::cuda
