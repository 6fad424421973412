// rANS in C++: every instruction set decodes what the encoder made, damage is noticed wherever it is, and arbitrary bytes stay harmless.
// The fuzzer at the end runs for COMNECK_FUZZ_SECONDS; under the sanitizers a read outside of the payload's memory ends the program.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "comneck.h"
#include "entropy/checksum.h"
#include "entropy/rans_decoder.h"
#include "entropy/rans_encoder.h"
#include "entropy/rans_isa.h"
#include "rans_symbols.h"

using namespace comneck;

namespace {

const RansTables &tables() {
  static const RansTables gaussian = gaussian_tables();
  return gaussian;
}

std::vector<int32_t> instruction_sets() {
  std::vector<int32_t> all{kIsaPortable};
  for (const int32_t isa : {kIsaAvx2, kIsaAvx512}) {
    if (rans_isa(isa) == isa) all.push_back(isa);
  }
  return all;
}

std::vector<RansPass> passes_of(const std::vector<Symbols> &symbols) {
  std::vector<RansPass> passes;
  for (const Symbols &s : symbols) {
    passes.push_back({&tables(), s.indices.data(), s.values.data(), static_cast<int64_t>(s.values.size())});
  }
  return passes;
}

// COMNECK_OK only if everything decoded and the symbols are these.
int32_t decode(RansDecoder *decoder, const std::vector<uint8_t> &payload, const std::vector<Symbols> &symbols, uint32_t checksum) {
  // exactly as long as the payload, so that the sanitizer sees any read beyond
  const std::vector<uint8_t> exact(payload);
  int32_t status = decoder->start(exact.data(), static_cast<int64_t>(exact.size()));
  bool same = true;
  for (const Symbols &s : symbols) {
    std::vector<int16_t> out(s.values.size(), 12345);
    const int32_t pass = decoder->decode(tables(), s.indices.data(), out.data(), static_cast<int64_t>(out.size()));
    same = same && out == s.values;
    if (pass != COMNECK_OK) {
      CHECK(out == std::vector<int16_t>(out.size(), 0));
      status = pass;
    }
  }
  const int32_t end = decoder->finish(checksum);
  if (status == COMNECK_OK) status = end;
  CHECK(status == COMNECK_OK || status == COMNECK_DAMAGED);
  CHECK((status == COMNECK_OK) == (decoder->damage()[0] == 0));
  CHECK(decoder->damage_offset() <= static_cast<int64_t>(payload.size()));
  if (status == COMNECK_OK) CHECK(same);
  return status;
}

void check_round_trips() {
  Random random{1};
  RansEncoder encoder;
  for (const int32_t isa : instruction_sets()) {
    RansDecoder decoder(isa);
    for (int32_t substreams = 1; substreams <= kMaxSubstreams; substreams++) {
      for (const int64_t size : {0, 1, 7, 8, 9, 31, 32, 33, 4095, 4096}) {
        const std::vector<Symbols> symbols{symbols_of(&random, size, 0.05), symbols_of(&random, size / 3, 0.2),
                                           symbols_of(&random, 5, 0.01), symbols_of(&random, size, 0.5)};
        encoder.encode(passes_of(symbols).data(), 4, substreams);
        CHECK_EQ(decode(&decoder, encoder.payload(), symbols, encoder.symbol_checksum()), COMNECK_OK);
      }
    }
  }
}

void check_extremes() {
  Random random{2};
  Symbols s = symbols_of(&random, 20000, 0.02);
  for (size_t i = 0; i < s.values.size(); i++) {
    s.indices[i] = static_cast<uint8_t>(random.below(64));
    s.values[i] = static_cast<int16_t>(static_cast<int32_t>(random.next()) >> random.below(32));
  }
  s.values[0] = INT16_MIN;
  s.values[1] = INT16_MAX;
  const std::vector<Symbols> symbols{s};
  RansEncoder encoder;
  encoder.encode(passes_of(symbols).data(), 1, 0);
  for (const int32_t isa : instruction_sets()) {
    RansDecoder decoder(isa);
    CHECK_EQ(decode(&decoder, encoder.payload(), symbols, encoder.symbol_checksum()), COMNECK_OK);
  }
}

void check_damage() {
  Random random{3};
  RansEncoder encoder;
  for (const int32_t substreams : {1, 3, 9}) {
    const std::vector<Symbols> symbols{symbols_of(&random, 700, 0.04), symbols_of(&random, 90, 0.04)};
    encoder.encode(passes_of(symbols).data(), 2, substreams);
    const std::vector<uint8_t> payload = encoder.payload();
    for (const int32_t isa : instruction_sets()) {
      RansDecoder decoder(isa);
      for (size_t length = 0; length < payload.size(); length++) {
        const std::vector<uint8_t> cut(payload.begin(), payload.begin() + static_cast<std::ptrdiff_t>(length));
        CHECK_EQ(decode(&decoder, cut, symbols, encoder.symbol_checksum()), COMNECK_DAMAGED);
      }
      for (size_t bit = 0; bit < 8 * payload.size(); bit++) {
        std::vector<uint8_t> flipped = payload;
        flipped[bit / 8] = static_cast<uint8_t>(flipped[bit / 8] ^ (1 << (bit % 8)));
        CHECK_EQ(decode(&decoder, flipped, symbols, encoder.symbol_checksum()), COMNECK_DAMAGED);
      }
      std::vector<uint8_t> longer = payload;
      longer.resize(payload.size() + 2);
      CHECK_EQ(decode(&decoder, longer, symbols, encoder.symbol_checksum()), COMNECK_DAMAGED);
      CHECK_EQ(decode(&decoder, payload, symbols, encoder.symbol_checksum() ^ 1), COMNECK_DAMAGED);
      CHECK_EQ(decode(&decoder, payload, symbols, encoder.symbol_checksum()), COMNECK_OK);
    }
  }
}

void check_bad_tables() {
  int32_t shift = 0, first = -1, count = 3;
  int32_t frequency[256] = {1000, 2000, 1000, 96};
  RansTables packed;
  CHECK_EQ(pack_tables(1, &shift, &first, &count, frequency, &packed), COMNECK_OK);
  frequency[3] = 95;
  CHECK_EQ(pack_tables(1, &shift, &first, &count, frequency, &packed), COMNECK_MISUSE);
  CHECK(std::strcmp(comneck_last_error(), "table 0: frequencies sum to 4095") == 0);
  CHECK_EQ(packed.tables, 0);
  count = 256;
  CHECK_EQ(pack_tables(1, &shift, &first, &count, frequency, &packed), COMNECK_MISUSE);
  CHECK_EQ(pack_tables(0, &shift, &first, &count, frequency, &packed), COMNECK_MISUSE);
}

// The kernels themselves, for every number of substreams: payloads of one substream never reach the wide ones.
void check_kernels() {
  Random random{4};
  const DecodeRounds kernels[] = {decode_rounds_avx2, decode_rounds_avx512};
  std::vector<uint16_t> words(kMaxSubstreams * kPaddingWords);
  for (uint16_t &word : words) word = static_cast<uint16_t>(random.next());
  for (int32_t substreams = 1; substreams <= kMaxSubstreams; substreams++) {
    RansLanes start;
    for (int32_t i = 0; i < kMaxSubstreams * kLanes; i++) start.state[i] = static_cast<uint32_t>(random.next()) | 1u << 16;
    for (int32_t s = 0; s < kMaxSubstreams; s++) start.word[s] = words.data() + s * kPaddingWords;
    const int64_t stride = substreams * kLanes + random.below(3) * kLanes;
    std::vector<uint8_t> indices(static_cast<size_t>(stride * kRounds));
    for (uint8_t &index : indices) index = static_cast<uint8_t>(random.below(64));
    std::vector<int16_t> expected(indices.size(), 77);
    RansLanes expected_lanes = start;
    const bool slow = decode_rounds_portable(&expected_lanes, substreams, stride, tables().entries.data(), indices.data(),
                                             expected.data(), kRounds);
    for (int k = 0; k < 2; k++) {
      if (rans_isa(kIsaAvx2 + k) != kIsaAvx2 + k) continue;
      RansLanes lanes = start;
      std::vector<int16_t> out(indices.size(), 77);
      CHECK_EQ(kernels[k](&lanes, substreams, stride, tables().entries.data(), indices.data(), out.data(), kRounds), slow);
      CHECK(out == expected);
      CHECK(std::memcmp(lanes.state, expected_lanes.state, sizeof lanes.state) == 0);
      CHECK(std::equal(lanes.word, lanes.word + kMaxSubstreams, expected_lanes.word));
    }
  }
}

// Payloads of random bytes, and good payloads with random changes: all instruction sets give the same verdict and the same symbols.
void fuzz() {
  Random random{static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count())};
  std::printf("fuzzing for %d seconds, seed %llu\n", COMNECK_FUZZ_SECONDS, static_cast<unsigned long long>(random.state));
  std::fflush(stdout);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(COMNECK_FUZZ_SECONDS);
  std::vector<RansDecoder> decoders;
  for (const int32_t isa : instruction_sets()) decoders.emplace_back(isa);
  RansEncoder encoder;
  int64_t runs = 0;
  while (std::chrono::steady_clock::now() < end) {
    const double decay = 0.01 + 0.5 * random.uniform();
    const std::vector<Symbols> symbols{symbols_of(&random, random.below(1500), decay), symbols_of(&random, random.below(200), decay)};
    encoder.encode(passes_of(symbols).data(), 2, static_cast<int32_t>(random.below(8) == 0 ? random.below(33) : 1 + random.below(4)));
    for (int variant = 0; variant < 20; variant++) {
      std::vector<uint8_t> payload = encoder.payload();
      if (random.below(10) == 0) {
        payload.resize(static_cast<size_t>(random.below(600)));
        for (uint8_t &byte : payload) byte = static_cast<uint8_t>(random.next());
      } else {
        for (int64_t change = random.below(6); change > 0; change--) {
          const int64_t size = static_cast<int64_t>(payload.size());
          if (size == 0) break;
          const int64_t reach = random.below(2) == 0 ? std::min<int64_t>(size, 40) : size;
          const size_t at = static_cast<size_t>(random.below(reach));
          switch (random.below(5)) {
            case 0: payload[at] = static_cast<uint8_t>(random.next()); break;
            case 1: payload[at] = static_cast<uint8_t>(payload[at] ^ (1 << random.below(8))); break;
            case 2: payload.resize(at); break;
            case 3: payload.insert(payload.begin() + static_cast<std::ptrdiff_t>(at), static_cast<uint8_t>(random.next())); break;
            default: payload.erase(payload.begin() + static_cast<std::ptrdiff_t>(at)); break;
          }
        }
      }
      std::vector<std::vector<int16_t>> first_out;
      std::string first_damage;
      for (size_t d = 0; d < decoders.size(); d++) {
        RansDecoder &decoder = decoders[d];
        std::vector<std::vector<int16_t>> out;
        const std::vector<uint8_t> exact(payload);
        (void)decoder.start(exact.data(), static_cast<int64_t>(exact.size()));
        for (const Symbols &s : symbols) {
          out.emplace_back(s.values.size(), int16_t{-1});
          (void)decoder.decode(tables(), s.indices.data(), out.back().data(), static_cast<int64_t>(s.values.size()));
        }
        const int32_t status = decoder.finish(encoder.symbol_checksum());
        if (status == COMNECK_OK) {
          CHECK(payload == encoder.payload());
          for (size_t p = 0; p < symbols.size(); p++) CHECK(out[p] == symbols[p].values);
        } else {
          CHECK_EQ(status, COMNECK_DAMAGED);
        }
        if (d == 0) {
          first_out = out;
          first_damage = decoder.damage();
        } else {
          CHECK(out == first_out);
          CHECK(first_damage == decoder.damage());
        }
      }
      runs++;
    }
  }
  std::printf("%lld payloads\n", static_cast<long long>(runs));
}

}  // namespace

int main() {
  check_kernels();
  CHECK_EQ(crc32c(0, "123456789", 9), 0xE3069283u);
  CHECK_EQ(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xE3069283u);
  std::vector<uint8_t> long_text(5000);
  uint32_t byte_by_byte = 0;
  for (size_t i = 0; i < long_text.size(); i++) {
    long_text[i] = static_cast<uint8_t>(i * i * 31 + i / 7);
    byte_by_byte = crc32c(byte_by_byte, &long_text[i], 1);
    if (i % 97 == 0) CHECK_EQ(crc32c(0, long_text.data(), static_cast<int64_t>(i) + 1), byte_by_byte);
  }
  CHECK_EQ(crc32c(0, long_text.data(), 5000), byte_by_byte);
  check_bad_tables();
  check_round_trips();
  check_extremes();
  check_damage();
  fuzz();
  return 0;
}
