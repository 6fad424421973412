// The kernel's payloads are the processor's encoder's, to the byte, whatever the number of symbols, images, substreams and images a block;
// a payload that does not fit is reported for its image alone, and not a byte of it is written.
#include "rans_encode/rans_encode.h"

#include <memory>

#include "device_array.h"
#include "entropy/rans_encoder.h"
#include "rans_symbols.h"

using namespace comneck;
using namespace comneck::cuda;

namespace {

constexpr uint8_t kUntouched = 0xCD;

struct Pass {
  const RansTables *tables;
  int32_t count;
  bool shared_indices;                        // one list for all images
  std::vector<std::vector<uint8_t>> indices;  // of each image
  std::vector<std::vector<int16_t>> values;
};

const RansTables &gaussian() {
  static const RansTables tables = gaussian_tables();
  return tables;
}
const RansTables &channels() {
  static const RansTables tables = channel_tables();
  return tables;
}

// wild: chance of any 16-bit value, so that it takes an escape most likely.
Pass make_pass(Random *random, int32_t images, int32_t count, bool is_gaussian, double wild) {
  Pass pass{is_gaussian ? &gaussian() : &channels(), count, !is_gaussian, {}, {}};
  for (int32_t n = 0; n < images; n++) {
    Symbols symbols = symbols_of(random, count, 0.07);
    for (size_t i = 0; i < symbols.values.size(); i++) {
      if (!is_gaussian) {
        symbols.indices[i] = static_cast<uint8_t>(i % 160);
        const RansTables::Shape &shape = pass.tables->shapes[i % 160];
        symbols.values[i] = static_cast<int16_t>((shape.first + random->below(shape.count)) * (1 << shape.shift) + random->below(1 << shape.shift));
      }
      if (random->uniform() < wild) symbols.values[i] = static_cast<int16_t>(static_cast<int32_t>(random->next()) >> random->below(32));
    }
    pass.indices.push_back(symbols.indices);
    pass.values.push_back(symbols.values);
  }
  return pass;
}

struct Encoded {
  std::vector<RansEncoded> results;
  std::vector<uint8_t> payloads;  // payload_room a piece
};

// Images' symbols lie with a gap behind each.
Encoded encode(const std::vector<Pass> &passes, int32_t images, int32_t substreams, int64_t payload_room, int32_t images_per_block) {
  constexpr int64_t kGap = 3;
  std::vector<uint8_t> tables;
  std::vector<RansEncodePass> described;
  std::vector<std::unique_ptr<DeviceArray<uint8_t>>> indices;
  std::vector<std::unique_ptr<DeviceArray<int16_t>>> values;
  RansEncodeCall call{};
  for (const Pass &pass : passes) {
    std::vector<uint8_t> all_indices;
    std::vector<int16_t> all_values;
    for (size_t n = 0; n < static_cast<size_t>(images); n++) {
      if (n == 0 || !pass.shared_indices) all_indices.insert(all_indices.end(), pass.indices[n].begin(), pass.indices[n].end());
      if (!pass.shared_indices) all_indices.insert(all_indices.end(), kGap, uint8_t{255});
      all_values.insert(all_values.end(), pass.values[n].begin(), pass.values[n].end());
      all_values.insert(all_values.end(), kGap, int16_t{-1});
    }
    indices.push_back(std::make_unique<DeviceArray<uint8_t>>(all_indices));
    values.push_back(std::make_unique<DeviceArray<int16_t>>(all_values));
    RansEncodePass one{};
    one.tables = append_encode_tables(*pass.tables, &tables);
    one.count = pass.count;
    one.first = call.symbols;
    one.indices = indices.back()->data();
    one.indices_stride = pass.shared_indices ? 0 : pass.count + kGap;
    one.values = values.back()->data();
    one.values_stride = pass.count + kGap;
    described.push_back(one);
    call.symbols += pass.count;
  }
  const auto all = static_cast<size_t>(images);
  DeviceArray<RansEncodePass> device_passes(described);
  DeviceArray<uint8_t> device_tables(tables);
  DeviceArray<uint8_t> payloads(std::vector<uint8_t>(all * static_cast<size_t>(payload_room), kUntouched));
  DeviceArray<RansEncoded> results(all);
  call.image_count = images;
  call.substreams = substreams;
  call.passes = device_passes.data();
  call.pass_count = static_cast<int32_t>(passes.size());
  call.tables = device_tables.data();
  call.tables_bytes = static_cast<int32_t>(tables.size());
  call.payloads = payloads.data();
  call.payload_room = payload_room;
  call.word_room = rans_encode_words(call.symbols, call.pass_count);
  call.side_room = rans_encode_side(payload_room);
  DeviceArray<uint16_t> words(all * static_cast<size_t>(call.word_room));
  DeviceArray<uint32_t> side(all * static_cast<size_t>(call.side_room));
  call.words = words.data();
  call.side = side.data();
  call.encoded = results.data();
  CHECK(rans_encode(call, images_per_block, nullptr) == cudaSuccess);
  return {results.to_host(), payloads.to_host()};
}

struct Expected {
  std::vector<uint8_t> payload;
  uint32_t checksum;
};

Expected on_processor(const std::vector<Pass> &passes, size_t image, int32_t substreams) {
  std::vector<RansPass> all;
  for (const Pass &pass : passes) all.push_back({pass.tables, pass.indices[image].data(), pass.values[image].data(), pass.count});
  RansEncoder encoder;
  encoder.encode(all.data(), static_cast<int32_t>(all.size()), substreams);
  return {encoder.payload(), encoder.symbol_checksum()};
}

// Every image is the processor's, or is reported, and what lies behind a payload is untouched.
int32_t check(const std::vector<Pass> &passes, int32_t images, int32_t substreams, int64_t payload_room, int32_t images_per_block) {
  const Encoded encoded = encode(passes, images, substreams, payload_room, images_per_block);
  int32_t overflowed = 0;
  for (size_t n = 0; n < static_cast<size_t>(images); n++) {
    const Expected expected = on_processor(passes, n, substreams);
    const RansEncoded &result = encoded.results[n];
    const auto size = static_cast<int64_t>(expected.payload.size());
    CHECK_EQ(result.bytes, size);
    CHECK_EQ(result.checksum, expected.checksum);
    CHECK_EQ(result.substreams, expected.payload[0] + 1);
    CHECK_EQ(result.overflowed, size > payload_room ? 1 : 0);
    CHECK_EQ(result.no_table, 0);
    overflowed += result.overflowed;
    std::vector<uint8_t> whole(static_cast<size_t>(payload_room), kUntouched);
    for (size_t i = 0; size <= payload_room && i < expected.payload.size(); i++) whole[i] = expected.payload[i];
    CHECK(std::equal(whole.begin(), whole.end(), encoded.payloads.begin() + static_cast<std::ptrdiff_t>(n) * payload_room));
  }
  return overflowed;
}

void check_sizes() {
  Random random{21};
  const int32_t sizes[] = {0, 1, 7, 8, 9, 31, 32, 33, 255, 256, 257, 1023, 1025, 2600};
  for (size_t a = 0; a < std::size(sizes); a++) {
    const int32_t images = a % 3 == 0 ? 1 : a % 3 == 1 ? 3 : 6;
    const double wild = a % 4 == 3 ? 0.9 : 0.02;
    const std::vector<Pass> passes{make_pass(&random, images, sizes[a], false, wild),
                                   make_pass(&random, images, sizes[(a * 5 + 3) % std::size(sizes)], true, wild),
                                   make_pass(&random, images, sizes[(a * 3 + 1) % std::size(sizes)], true, wild)};
    for (const int32_t substreams : {0, 1, 5, 32}) {
      CHECK_EQ(check(passes, images, substreams, 40000, a % 2 == 0 || substreams == 5 ? 1 : 4), 0);
    }
  }
}

// Gaussian tables alone fit shared memory; many images in several blocks, and payloads large enough for several substreams.
void check_batches() {
  Random random{22};
  const std::vector<Pass> passes{make_pass(&random, 9, 1500, true, 0.05)};
  for (const int32_t per_block : {1, 3, 4}) CHECK_EQ(check(passes, 9, 0, 8000, per_block), 0);
  const std::vector<Pass> large{make_pass(&random, 2, 9000, true, 0.3)};
  CHECK(on_processor(large, 0, 0).payload[0] > 2);
  CHECK_EQ(check(large, 2, 0, 40000, 4), 0);
}

void check_overflow() {
  Random random{23};
  std::vector<Pass> passes{make_pass(&random, 4, 700, true, 0.01), make_pass(&random, 4, 65, false, 0.01)};
  passes[0].values[2] = make_pass(&random, 1, 700, true, 1.0).values[0];  // one image of escapes: many more bytes
  int64_t most_ordinary = 0;
  for (const size_t n : {0, 1, 3}) most_ordinary = std::max(most_ordinary, static_cast<int64_t>(on_processor(passes, n, 3).payload.size()));
  const auto large = static_cast<int64_t>(on_processor(passes, 2, 3).payload.size());
  CHECK(large > most_ordinary);
  for (const int32_t per_block : {1, 4}) {
    CHECK_EQ(check(passes, 4, 3, large, per_block), 0);
    CHECK_EQ(check(passes, 4, 3, large - 1, per_block), 1);
    CHECK_EQ(check(passes, 4, 3, most_ordinary, per_block), 1);
    CHECK_EQ(check(passes, 4, 3, 40, per_block), 4);
    CHECK_EQ(check(passes, 4, 3, 0, per_block), 4);
  }
}

// The number of substreams is chosen from the size: at every border of it, and no more than there may be.
void check_substreams() {
  Random random{24};
  const std::vector<Pass> all{make_pass(&random, 1, 24000, true, 0.1)};
  const auto prefix = [&](int32_t count) {
    std::vector<Pass> passes = all;
    passes[0].count = count;
    passes[0].indices[0].resize(static_cast<size_t>(count));
    passes[0].values[0].resize(static_cast<size_t>(count));
    return passes;
  };
  const auto chosen = [&](int32_t count) { return on_processor(prefix(count), 0, 0).payload[0] + 1; };
  int32_t borders = 0;
  for (int32_t wanted = 2; wanted <= chosen(24000); wanted++) {
    int32_t fewer = 1, enough = 24000;
    while (enough - fewer > 1) {
      const int32_t middle = (fewer + enough) / 2;
      (chosen(middle) < wanted ? fewer : enough) = middle;
    }
    for (const int32_t count : {fewer - 1, fewer, enough, enough + 1}) CHECK_EQ(check(prefix(std::min(count, 24000)), 1, 0, 40000, 1), 0);
    borders++;
  }
  CHECK(borders >= 3);
  const std::vector<Pass> large{make_pass(&random, 1, 30000, true, 1.0)};
  CHECK(on_processor(large, 0, 0).payload.size() > 33 * 2048);
  CHECK_EQ(check(large, 1, 0, 200000, 1), 0);
}

// Every room from none to more than enough, where most symbols have side bits.
void check_rooms() {
  Random random{25};
  const std::vector<Pass> passes{make_pass(&random, 2, 45, true, 0.9)};
  const auto most = static_cast<int64_t>(std::max(on_processor(passes, 0, 1).payload.size(), on_processor(passes, 1, 1).payload.size()));
  for (int64_t room = 0; room <= most + 8; room++) check(passes, 2, 1, room, 1);
}

// An index without a table is reported for its image, reads nothing else, and harms no other image, whichever comes after it in a block.
void check_indices() {
  Random random{26};
  for (const uint8_t wrong : {uint8_t{64}, uint8_t{255}}) {
    for (const int32_t at : {0, 699}) {
      std::vector<Pass> passes{make_pass(&random, 5, 65, false, 0.02), make_pass(&random, 5, 700, true, 0.02)};
      const uint8_t right = passes[1].indices[1][static_cast<size_t>(at)];
      passes[1].indices[1][static_cast<size_t>(at)] = wrong;
      for (const int32_t per_block : {1, 4}) {
        const Encoded encoded = encode(passes, 5, 0, 8000, per_block);
        for (size_t n = 0; n < 5; n++) {
          CHECK_EQ(encoded.results[n].no_table, n == 1 ? 1 : 0);
          if (n == 1) continue;
          const Expected expected = on_processor(passes, n, 0);
          CHECK(std::equal(expected.payload.begin(), expected.payload.end(), encoded.payloads.begin() + static_cast<std::ptrdiff_t>(n) * 8000));
        }
      }
      passes[1].indices[1][static_cast<size_t>(at)] = right;
      CHECK_EQ(check(passes, 5, 0, 8000, 4), 0);
    }
  }
  // The last one that there is.
  std::vector<Pass> last{make_pass(&random, 1, 33, true, 0.02)};
  for (uint8_t &index : last[0].indices[0]) index = 63;
  CHECK_EQ(check(last, 1, 0, 8000, 1), 0);
}

void check_misuse() {
  RansEncodeCall call{};
  call.side_room = 1;
  CHECK(rans_encode(call, 1, nullptr) == cudaSuccess);  // no image
  CHECK(rans_encode(call, 5, nullptr) == cudaErrorInvalidValue);
  call.substreams = 33;
  CHECK(rans_encode(call, 1, nullptr) == cudaErrorInvalidValue);
  call.substreams = 1;
  call.symbols = 1;
  CHECK(rans_encode(call, 1, nullptr) == cudaErrorInvalidValue);  // no room for words
}

}  // namespace

int main() {
  check_misuse();
  check_sizes();
  check_batches();
  check_overflow();
  check_substreams();
  check_rooms();
  check_indices();
  return 0;
}
