// A block takes one image or a few and has three stages, so that the serial one in the middle waits for nothing:
//   1. forwards, an image after the other with all threads: side bits (a prefix sum says where each symbol's begin), information content
//      and hence the number of substreams, CRC32C of the symbols;
//   2. backwards, the lanes: eight threads are one substream, a warp four of them, of one image or of several. Words go to scratch memory,
//      each substream's part filled from its end; it holds a word for every symbol, so that none can lie outside;
//   3. the payload: lengths are known now, so that it is written where it ends up, or not at all where it does not fit.
// A symbol's start and frequency are looked up twice, in 1 and in 2: cheaper than four bytes a symbol through memory.
#include "rans_encode/rans_encode.h"

#include <cstring>

#include "rans_decode/block_crc32c.h"
#include "rans_decode/rans_decode.h"

namespace comneck::cuda {

RansEncodeTables append_encode_tables(const RansTables &tables, std::vector<uint8_t> *block) {
  std::vector<uint8_t> packed;
  const RansTablesLayout layout = pack_device_tables(tables, &packed);
  const auto at = static_cast<int32_t>(block->size());
  // The buckets are for searching a slot: an encoder knows its symbol.
  block->insert(block->end(), packed.begin(), packed.begin() + layout.buckets_bytes);
  block->resize((block->size() + 15) / 16 * 16);
  return {at, at + layout.starts_bytes, tables.tables};
}

namespace {

constexpr int32_t kThreads = 256;
constexpr int32_t kWarps = kThreads / 32;
constexpr int32_t kMostImages = 4;  // of a block
constexpr int32_t kPerThread = 4;   // symbols of a thread in a tile of stage 1
constexpr unsigned kAll = 0xFFFFFFFFu;
// Larger tables stay in global memory, so that no device needs an opt-in.
constexpr int32_t kMostTableBytes = 32 << 10;
constexpr int64_t kBytesPerSubstream = 2048;
constexpr int32_t kMostStateBits = 35;  // 4 + 16 + 15
constexpr int32_t kStateWords = kMaxSubstreams * kLanes * kMostStateBits / 32 + 1;
constexpr int32_t kMostHeadBytes = 1 + 5 * kMaxSubstreams;

static_assert(kThreads == kMaxSubstreams * kLanes, "stage 3: a thread for each lane");

__device__ inline int32_t floor_log2(uint32_t x) { return 31 - __clz(static_cast<int>(x)); }

// 256 * (12 - log2(frequency)) by squaring in integers: the processor's RansTables::costs.
__device__ inline uint32_t cost_of(uint32_t frequency) {
  const int32_t whole = floor_log2(frequency);
  uint64_t mantissa = static_cast<uint64_t>(frequency) << (30 - whole);
  int32_t log = whole;
  for (int i = 0; i < 8; i++) {
    mantissa = (mantissa * mantissa) >> 30;
    log <<= 1;
    if (mantissa >= (uint64_t{1} << 31)) {
      mantissa >>= 1;
      log |= 1;
    }
  }
  return static_cast<uint32_t>(kPrecision * 256 - log);
}

// A set of tables, in shared memory or in the device's.
struct Book {
  const RansTableShape *shapes;
  const uint16_t *starts;
  int32_t last;

  __device__ Book(const uint8_t *tables, const RansEncodeTables &at)
      : shapes(reinterpret_cast<const RansTableShape *>(tables + at.shapes)),
        starts(reinterpret_cast<const uint16_t *>(tables + at.starts)),
        last(at.tables - 1) {}
  // Whatever the index, a table that exists.
  __device__ int32_t table(uint8_t index) const { return min(int32_t{index}, last); }
};

struct Symbol {
  uint32_t start;
  uint32_t frequency;
};

__device__ inline Symbol symbol_of(const Book &book, int32_t table, int32_t value) {
  const RansTableShape shape = book.shapes[table];
  int32_t q = (value >> shape.shift) - shape.first;
  if (q < 0 || q > shape.count) q = shape.count;
  const uint32_t start = book.starts[shape.starts + q];
  return {start, book.starts[shape.starts + q + 1] - start};
}

// What the symbol cannot say, lowest bit first.
struct Side {
  uint32_t bits;
  int32_t width;
};

__device__ inline Side side_of(const RansTableShape &shape, int32_t value) {
  const int32_t q = (value >> shape.shift) - shape.first;
  if (q >= 0 && q < shape.count) return {static_cast<uint32_t>(value) & ((1u << shape.shift) - 1u), shape.shift};
  const bool below = q < 0;
  const int32_t low = shape.first * (1 << shape.shift);
  const int32_t high = (shape.first + shape.count) * (1 << shape.shift) - 1;
  const uint32_t distance = static_cast<uint32_t>(below ? low - value : value - high);  // 1 to 65,535
  const int32_t zeros = floor_log2(distance);
  // one bit for the side, zeros zeros and a one, the rest of the distance: 32 bits at most
  const uint64_t bits = (below ? 1u : 0u) | (uint64_t{1} << zeros) << 1 | static_cast<uint64_t>(distance & ((1u << zeros) - 1u)) << (zeros + 2);
  return {static_cast<uint32_t>(bits), 2 * zeros + 2};
}

// Exclusive prefix sum over the block, and the sum of all. sums: kWarps words of shared memory, free again after the next barrier.
__device__ inline int32_t block_scan(int32_t value, int32_t *sums, int32_t *total) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x % 32);
  const int32_t warp = static_cast<int32_t>(threadIdx.x / 32);
  int32_t sum = value;
  for (unsigned step = 1; step < 32; step *= 2) {
    const int32_t before = __shfl_up_sync(kAll, sum, step);
    if (lane >= static_cast<int32_t>(step)) sum += before;
  }
  if (lane == 31) sums[warp] = sum;
  __syncthreads();
  int32_t earlier = 0;
  int32_t all = 0;
  for (int32_t w = 0; w < kWarps; w++) {
    if (w == warp) earlier = all;
    all += sums[w];
  }
  *total = all;
  return earlier + sum - value;
}

__device__ inline void put_bits(uint32_t *words, int64_t bit, uint64_t value, int32_t width) {
  if (width == 0) return;
  const int64_t word = bit / 32;
  const int32_t shift = static_cast<int32_t>(bit % 32);
  const uint64_t low = value << shift;
  atomicOr(words + word, static_cast<uint32_t>(low));
  if (shift + width > 32) atomicOr(words + word + 1, static_cast<uint32_t>(low >> 32));
  if (shift + width > 64) atomicOr(words + word + 2, static_cast<uint32_t>(value >> (64 - shift)));
}

// Stage 1 for image n. Returns the number of its side bits, to every thread; those that fit side_room words are there after the next
// barrier. cost and no_table: in shared memory, 0 before; after the next barrier the cost in 256ths of a bit, where the caller asks for it,
// and whether an index has no table.
__device__ int64_t gather_side(const RansEncodeCall &call, const uint8_t *tables, int64_t n, int32_t *sums, unsigned long long *cost,
                               int32_t *no_table) {
  const int32_t t = static_cast<int32_t>(threadIdx.x);
  uint32_t *side = call.side + n * call.side_room;
  int64_t bit = 0;
  unsigned long long mine = 0;
  bool missing = false;
  for (int32_t p = 0; p < call.pass_count; p++) {
    const RansEncodePass &pass = call.passes[p];
    const Book book(tables, pass.tables);
    const uint8_t *indices = pass.indices + n * pass.indices_stride;
    const int16_t *values = pass.values + n * pass.values_stride;
    for (int32_t base = 0; base < pass.count; base += kThreads * kPerThread) {
      Side sides[kPerThread];
      int32_t width = 0;
      COMNECK_UNROLL
      for (int j = 0; j < kPerThread; j++) {
        const int32_t i = base + t * kPerThread + j;
        sides[j] = {0, 0};
        if (i < pass.count) {
          const int32_t table = book.table(indices[i]);
          missing = missing || table != indices[i];
          sides[j] = side_of(book.shapes[table], values[i]);
          if (call.substreams == 0) mine += cost_of(symbol_of(book, table, values[i]).frequency);
        }
        width += sides[j].width;
      }
      if (__syncthreads_or(width) == 0) continue;
      int32_t total = 0;
      int64_t at = bit + block_scan(width, sums, &total);
      if (bit + total <= 32 * call.side_room) {
        for (int64_t w = (bit + 31) / 32 + t; w < (bit + total + 31) / 32; w += kThreads) side[w] = 0;
        __syncthreads();
        COMNECK_UNROLL
        for (int j = 0; j < kPerThread; j++) {
          put_bits(side, at, sides[j].bits, sides[j].width);
          at += sides[j].width;
        }
      }
      bit += total;
    }
  }
  if (call.substreams == 0) atomicAdd(cost, mine);
  if (missing) atomicOr(no_table, 1);
  return bit;
}

// Stage 2 for the four groups of a warp. groups: images' substreams one after the other. state: [image][lane], used: [image][substream].
__device__ void encode_lanes(const RansEncodeCall &call, const uint8_t *tables, const int32_t *substreams, int32_t image_count,
                             int64_t first_image, int32_t first_group, uint32_t *state, int32_t *used) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x % 32);
  const int32_t l = lane % kLanes;
  int32_t s = first_group + lane / kLanes;  // becomes the substream of image k
  int32_t k = 0;
  while (k < image_count && s >= substreams[k]) s -= substreams[k++];
  const bool present = k < image_count;
  const int32_t all = present ? substreams[k] : 1;
  const int64_t n = first_image + (present ? k : 0);
  int32_t room = 0;
  for (int32_t p = 0; p < call.pass_count; p++) room += (call.passes[p].count + all * kLanes - 1) / (all * kLanes) * kLanes;
  uint16_t *words = call.words + n * call.word_room + int64_t{present ? s : 0} * room;
  int32_t cursor = room;
  uint32_t x = kStateLow;

  for (int32_t p = call.pass_count - 1; p >= 0; p--) {
    const RansEncodePass &pass = call.passes[p];
    const Book book(tables, pass.tables);
    const uint8_t *indices = pass.indices + n * pass.indices_stride;
    const int16_t *values = pass.values + n * pass.values_stride;
    const int32_t count = pass.count;
    const int32_t eights = (count + kLanes - 1) / kLanes;
    const int32_t rounds = present && s < eights ? (eights - s + all - 1) / all : 0;
    const int32_t most_rounds = static_cast<int32_t>(__reduce_max_sync(kAll, static_cast<unsigned>(rounds)));
    for (int32_t r = most_rounds - 1; r >= 0; r--) {
      const int32_t i = (r * all + s) * kLanes + l;
      const bool active = r < rounds && i < count;
      Symbol symbol{0, 1};
      if (active) symbol = symbol_of(book, book.table(indices[i]), values[i]);
      const bool full = active && x >> 20 >= symbol.frequency;
      const unsigned givers = __ballot_sync(kAll, full ? 1 : 0) >> (lane & ~(kLanes - 1)) & 0xFFu;
      cursor -= __popc(givers);
      if (full) {
        words[cursor + __popc(givers & ((1u << l) - 1u))] = static_cast<uint16_t>(x);
        x >>= 16;
      }
      if (active) x += x / symbol.frequency * (kSlots - symbol.frequency) + symbol.start;
    }
  }
  if (present) {
    state[k * kThreads + s * kLanes + l] = x;
    if (l == 0) used[k * kMaxSubstreams + s] = room - cursor;
  }
}

__device__ inline int32_t put_varint(uint8_t *out, int32_t at, int64_t value) {
  uint64_t rest = static_cast<uint64_t>(value);
  for (; rest >= 0x80; rest >>= 7) out[at++] = static_cast<uint8_t>(rest | 0x80);
  out[at++] = static_cast<uint8_t>(rest);
  return at;
}

// Eight side bits from bit b on, b > -8; 0 where there are none.
__device__ inline uint32_t side_byte(const uint32_t *side, int64_t side_bits, int64_t b) {
  if (b >= side_bits) return 0;
  if (b < 0) return side_bits > 0 ? side[0] << -b & 0xFFu : 0;
  const int64_t word = b / 32;
  const int32_t shift = static_cast<int32_t>(b % 32);
  uint32_t byte = side[word] >> shift;
  if (shift > 24 && (word + 1) * 32 < side_bits) byte |= side[word + 1] << (32 - shift);
  return byte & 0xFFu;
}

// Shared memory of stage 3.
struct Assembly {
  uint32_t states[kStateWords];
  uint8_t head[kMostHeadBytes];
  int32_t head_bytes;
  int32_t word_first[kMaxSubstreams + 1];
};

// Stage 3 for image n: the payload, or its length only. Returns the length.
__device__ int64_t assemble(const RansEncodeCall &call, int64_t n, int32_t substreams, const uint32_t *state, const int32_t *used,
                            int64_t side_bits, int32_t *sums, Assembly *shared) {
  const int32_t t = static_cast<int32_t>(threadIdx.x);
  for (int32_t i = t; i < kStateWords; i += kThreads) shared->states[i] = 0;
  uint64_t bits = 0;
  int32_t width = 0;
  if (t < substreams * kLanes) {
    const uint32_t x = state[t];
    const int32_t more = floor_log2(x) - 16;
    width = 20 + more;
    bits = static_cast<uint64_t>(more) | static_cast<uint64_t>(x & 0xFFFFu) << 4 | static_cast<uint64_t>(x >> 16 & ((1u << more) - 1u)) << 20;
  }
  int32_t state_bits = 0;
  const int32_t at = block_scan(width, sums, &state_bits);  // its barrier is also behind the zeros
  put_bits(shared->states, at, bits, width);
  const int64_t bit_bytes = (state_bits + side_bits + 7) / 8;
  if (t == 0) {
    shared->head[0] = static_cast<uint8_t>(substreams - 1);
    int32_t head = put_varint(shared->head, 1, bit_bytes);
    int32_t words = 0;
    for (int32_t s = 0; s < substreams; s++) {
      if (s + 1 < substreams) head = put_varint(shared->head, head, used[s]);
      shared->word_first[s] = words;
      words += used[s];
    }
    shared->word_first[substreams] = words;
    shared->head_bytes = head;
  }
  __syncthreads();
  const int64_t words_at = shared->head_bytes + bit_bytes;
  const int64_t bytes = words_at + int64_t{2} * shared->word_first[substreams];
  if (bytes > call.payload_room) return bytes;

  uint8_t *out = call.payloads + n * call.payload_room;
  if (t < shared->head_bytes) out[t] = shared->head[t];
  const uint32_t *side = call.side + n * call.side_room;
  for (int64_t j = t; j < bit_bytes; j += kThreads) {
    uint32_t byte = 8 * j < state_bits ? shared->states[j / 4] >> (j % 4 * 8) & 0xFFu : 0u;
    if (8 * j + 8 > state_bits) byte |= side_byte(side, side_bits, 8 * j - state_bits);
    out[shared->head_bytes + j] = static_cast<uint8_t>(byte);
  }
  int32_t room = 0;
  for (int32_t p = 0; p < call.pass_count; p++) room += (call.passes[p].count + substreams * kLanes - 1) / (substreams * kLanes) * kLanes;
  for (int32_t s = 0; s < substreams; s++) {
    const uint16_t *words = call.words + n * call.word_room + int64_t{s + 1} * room - used[s];
    uint8_t *to = out + words_at + int64_t{2} * shared->word_first[s];
    for (int32_t i = t; i < used[s]; i += kThreads) {
      to[2 * i] = static_cast<uint8_t>(words[i]);
      to[2 * i + 1] = static_cast<uint8_t>(words[i] >> 8);
    }
  }
  return bytes;
}

__global__ void __launch_bounds__(kThreads) encode_images(RansEncodeCall call, int32_t images_per_block, int32_t shared_table_bytes) {
  COMNECK_DYNAMIC_SHARED(uint4, shared_tables);
  COMNECK_SHARED(state, uint32_t[kMostImages * kThreads]);
  COMNECK_SHARED(used, int32_t[kMostImages * kMaxSubstreams]);
  COMNECK_SHARED(substreams, int32_t[kMostImages]);
  COMNECK_SHARED(side_bits, int64_t[kMostImages]);
  COMNECK_SHARED(sums, int32_t[kWarps]);
  COMNECK_SHARED(cost, unsigned long long[1]);
  COMNECK_SHARED(no_table, int32_t[1]);
  COMNECK_SHARED(crc_step, uint32_t[256]);
  COMNECK_SHARED(crc_part, uint32_t[kThreads]);
  COMNECK_SHARED(assembly, Assembly[1]);
  const int32_t t = static_cast<int32_t>(threadIdx.x);
  const int64_t first_image = int64_t{blockIdx.x} * images_per_block;
  const int32_t here = static_cast<int32_t>(min(int64_t{images_per_block}, call.image_count - first_image));

  for (int32_t i = t; i < shared_table_bytes / 16; i += kThreads) shared_tables[i] = reinterpret_cast<const uint4 *>(call.tables)[i];
  const uint8_t *tables = shared_table_bytes > 0 ? reinterpret_cast<const uint8_t *>(shared_tables) : call.tables;

  // 1. side bits, substreams, checksum
  for (int32_t k = 0; k < here; k++) {
    const int64_t n = first_image + k;
    if (t == 0) {
      cost[0] = 0;
      no_table[0] = 0;
    }
    __syncthreads();
    const int64_t bits = gather_side(call, tables, n, sums, cost, no_table);
    int32_t p = 0;
    const auto symbol_at = [&](int64_t i) {
      while (i >= call.passes[p].first + call.passes[p].count) p++;
      return call.passes[p].values[n * call.passes[p].values_stride + i - call.passes[p].first];
    };
    const uint32_t checksum = block_crc32c<kThreads>(call.symbols, symbol_at, crc_step, crc_part);
    if (t == 0) {
      const int64_t bytes = (static_cast<int64_t>(cost[0] / 256) + bits) / 8;
      const int64_t wanted = min(int64_t{kMaxSubstreams}, max(int64_t{1}, (bytes + kBytesPerSubstream / 2) / kBytesPerSubstream));
      substreams[k] = call.substreams > 0 ? call.substreams : static_cast<int32_t>(wanted);
      side_bits[k] = bits;
      call.encoded[n] = {0, checksum, substreams[k], 0, no_table[0]};
    }
    __syncthreads();
  }

  // 2. lanes
  int32_t groups = 0;
  for (int32_t k = 0; k < here; k++) groups += substreams[k];
  for (int32_t group = t / 32 * 4; group < groups; group += kThreads / kLanes) {
    encode_lanes(call, tables, substreams, here, first_image, group, state, used);
  }
  __syncthreads();

  // 3. payloads
  for (int32_t k = 0; k < here; k++) {
    const int64_t n = first_image + k;
    const int64_t bytes =
        assemble(call, n, substreams[k], state + k * kThreads, used + k * kMaxSubstreams, side_bits[k], sums, assembly);
    if (t == 0) {
      call.encoded[n].bytes = bytes;
      call.encoded[n].overflowed = bytes > call.payload_room ? 1 : 0;
    }
    __syncthreads();
  }
}

}  // namespace

cudaError_t rans_encode(const RansEncodeCall &call, int32_t images_per_block, cudaStream_t stream) {
  if (call.image_count < 0 || call.pass_count < 0 || call.substreams < 0 || call.substreams > kMaxSubstreams || images_per_block < 1 ||
      images_per_block > kMostImages || call.symbols < 0 || call.symbols > INT32_MAX / 2 || call.tables_bytes < 0 ||
      call.tables_bytes % 16 != 0 || call.payload_room < 0 || call.word_room < rans_encode_words(call.symbols, call.pass_count) ||
      call.side_room < rans_encode_side(call.payload_room)) {
    return cudaErrorInvalidValue;
  }
  if (call.image_count == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((call.image_count + images_per_block - 1) / images_per_block);
  const int32_t shared = call.tables_bytes <= kMostTableBytes ? call.tables_bytes : 0;
  return launch(encode_images, blocks, kThreads, static_cast<size_t>(shared), stream, call, images_per_block, shared);
}

}  // namespace comneck::cuda
