// What the processor's encoder made, decoded by the kernels: the same symbols, tables, latents and checksum, whatever the number of
// images, substreams and images a block; any damage is found, stays with its image, and harms nothing else.
#include "rans_decode/rans_decode.h"

#include <bit>
#include <string>

#include "comneck.h"
#include "device_array.h"
#include "entropy/checksum.h"
#include "entropy/quantize.h"
#include "entropy/rans_decoder.h"
#include "entropy/rans_encoder.h"
#include "grids.h"
#include "rans_decode/rans_batch.h"
#include "rans_symbols.h"

using namespace comneck;
using namespace comneck::cuda;

namespace {

const RansTables &gaussian() {
  static const RansTables tables = gaussian_tables();
  return tables;
}

const RansTables &factorized() {
  static const RansTables tables = channel_tables();
  return tables;
}

// One pass over all images, as a model would make it.
struct Pass {
  bool is_gaussian;
  int32_t grid, height, width, channels, means_stride, positions;
  std::vector<float> means;       // gaussian: [image][position][means_stride], means then scales; else [channels]
  std::vector<float> thresholds;  // empty: factorized
  std::vector<std::vector<uint8_t>> indices;  // of each image
  std::vector<std::vector<int16_t>> values;

  const RansTables &tables() const { return is_gaussian ? gaussian() : factorized(); }
  int64_t count() const { return int64_t{positions} * channels; }
  float mean(int64_t image, int64_t i) const {
    const int64_t p = i / channels, c = i % channels;
    return means[static_cast<size_t>(is_gaussian ? (image * positions + p) * means_stride + c : c)];
  }
};

Pass make_pass(Random *random, int32_t images, bool is_gaussian, int32_t grid, int32_t height, int32_t width, int32_t channels, double wild) {
  Pass pass{};
  pass.is_gaussian = is_gaussian;
  pass.grid = grid;
  pass.height = height;
  pass.width = width;
  pass.channels = channels;
  const int32_t all = height * width;
  pass.positions = grid == COMNECK_FULL ? all : grid == COMNECK_ANCHORS ? (all + 1) / 2 : all / 2;
  pass.means_stride = is_gaussian ? 2 * channels + 3 : channels;
  pass.means.resize(static_cast<size_t>(is_gaussian ? int64_t{images} * pass.positions * pass.means_stride : channels));
  for (float &mean : pass.means) mean = static_cast<float>(random->uniform() * 8 - 4);
  if (is_gaussian) {
    for (int t = 0; t < 63; t++) pass.thresholds.push_back(static_cast<float>(scale_of(t)));
  }
  for (int32_t n = 0; n < images; n++) {
    Symbols symbols = symbols_of(random, pass.count(), 0.07);
    for (int64_t i = 0; i < pass.count(); i++) {
      const int64_t c = i % channels;
      const auto at = static_cast<size_t>(i);
      if (is_gaussian) {
        float &scale = pass.means[static_cast<size_t>((n * int64_t{pass.positions} + i / channels) * pass.means_stride + channels + c)];
        const int32_t t = symbols.indices[at];
        scale = t == 63 ? 1e9f : pass.thresholds[static_cast<size_t>(t)];  // exactly on a threshold: not above it
        if (random->below(50) == 0) scale = std::bit_cast<float>(0x7FC00000u), symbols.indices[at] = 0;
        if (random->below(50) == 0) scale = -1.0f, symbols.indices[at] = 0;
      } else {
        symbols.indices[at] = static_cast<uint8_t>(c);
        const RansTables::Shape &shape = pass.tables().shapes[static_cast<size_t>(c)];
        symbols.values[at] = static_cast<int16_t>((shape.first + random->below(shape.count)) * (1 << shape.shift) + random->below(1 << shape.shift));
      }
      if (random->uniform() < wild) symbols.values[at] = static_cast<int16_t>(static_cast<int32_t>(random->next()) >> random->below(32));
    }
    pass.indices.push_back(symbols.indices);
    pass.values.push_back(symbols.values);
  }
  return pass;
}

struct Payload {
  std::vector<uint8_t> bytes;
  uint32_t checksum;
};

Payload encode(const std::vector<Pass> &passes, int32_t image, int32_t substreams) {
  std::vector<RansPass> all;
  for (const Pass &pass : passes) {
    const auto n = static_cast<size_t>(image);
    all.push_back({&pass.tables(), pass.indices[n].data(), pass.values[n].data(), pass.count()});
  }
  RansEncoder encoder;
  encoder.encode(all.data(), static_cast<int32_t>(all.size()), substreams);
  return {encoder.payload(), encoder.symbol_checksum()};
}

struct Decoded {
  std::vector<std::vector<int16_t>> symbols;  // of each pass, all images
  std::vector<std::vector<float>> hat;        // full grids
  std::vector<PayloadDamage> damage;          // of each image
};

constexpr int32_t kSymbolPad = 2;  // channels of the destination that nobody may touch
constexpr int16_t kUntouched = 12345;

Decoded decode(const std::vector<Pass> &passes, const std::vector<Payload> &payloads, int32_t images_per_block) {
  const auto images = static_cast<int32_t>(payloads.size());
  Decoded result;
  result.damage.resize(payloads.size());
  std::vector<RansImage> laid_out(payloads.size());
  std::vector<RansSections> sections(payloads.size());
  std::vector<uint16_t> words;
  std::vector<uint8_t> bits;
  for (size_t n = 0; n < payloads.size(); n++) {
    PayloadHead head;
    const std::vector<uint8_t> &bytes = payloads[n].bytes;
    if (!read_payload_head(bytes.data(), static_cast<int64_t>(bytes.size()), &head, &result.damage[n])) {
      laid_out[n] = damaged_image();
      continue;
    }
    const auto first_word = static_cast<int64_t>(words.size());
    const auto first_bit = static_cast<int64_t>(bits.size());
    words.resize(words.size() + static_cast<size_t>(words_room(head)));
    bits.resize(bits.size() + static_cast<size_t>(head.bit_bytes + kBitPadding));
    lay_out(bytes.data(), head, words.data(), first_word, bits.data(), first_bit, &laid_out[n], &sections[n]);
  }
  int64_t total = 0;
  for (const Pass &pass : passes) total += pass.count();
  DeviceArray<RansImage> device_images(laid_out);
  DeviceArray<uint16_t> device_words(words);
  DeviceArray<uint8_t> device_bits(bits);
  DeviceArray<int16_t> coded(static_cast<size_t>(total * images));
  int64_t first = 0;
  for (const Pass &pass : passes) {
    std::vector<uint8_t> packed;
    const RansTablesLayout layout = pack_device_tables(pass.tables(), &packed);
    DeviceArray<uint8_t> tables(packed);
    DeviceArray<float> means(pass.means);
    DeviceArray<float> thresholds(pass.thresholds);
    DeviceArray<uint8_t> indices(static_cast<size_t>(pass.count() * images));
    const int64_t symbols_stride = pass.channels + kSymbolPad;
    const int64_t hat_stride = pass.channels + 1;
    DeviceArray<int16_t> symbols(std::vector<int16_t>(static_cast<size_t>(images * int64_t{pass.positions} * symbols_stride), kUntouched));
    DeviceArray<float> hat(std::vector<float>(static_cast<size_t>(images * int64_t{pass.height} * pass.width * hat_stride), -77.0f));
    RansDecodeCall call{};
    call.images = device_images.data();
    call.image_count = images;
    call.words = device_words.data();
    call.bits = device_bits.data();
    call.tables = tables.data();
    call.layout = layout;
    call.grid = pass.grid;
    call.height = pass.height;
    call.width = pass.width;
    call.positions = pass.positions;
    call.channels = pass.channels;
    call.means = means.data();
    call.means_stride = pass.means_stride;
    call.thresholds = pass.is_gaussian ? thresholds.data() : nullptr;
    call.threshold_count = static_cast<int32_t>(pass.thresholds.size());
    call.symbols = symbols.data();
    call.symbols_stride = symbols_stride;
    call.hat = hat.data();
    call.hat_stride = hat_stride;
    call.indices = indices.data();
    call.coded = coded.data() + first;
    call.coded_stride = total;
    CHECK(rans_decode(call, images_per_block, nullptr) == cudaSuccess);
    result.symbols.push_back(symbols.to_host());
    result.hat.push_back(hat.to_host());
    first += pass.count();
  }
  CHECK(rans_finish(device_images.data(), images, device_bits.data(), coded.data(), total, total, nullptr) == cudaSuccess);
  const std::vector<RansImage> finished = device_images.to_host();
  const std::vector<int16_t> all = coded.to_host();
  for (size_t n = 0; n < payloads.size(); n++) {
    if (laid_out[n].error != RansError::kHead) {
      CHECK_EQ(finished[n].checksum, crc32c(0, all.data() + static_cast<int64_t>(n) * total, 2 * total));
    }
    describe(finished[n], sections[n], payloads[n].checksum, &result.damage[n]);
  }
  return result;
}

// An undamaged image gave its symbols and latents, and nothing beside them was written.
void check_image(const std::vector<Pass> &passes, const Decoded &decoded, int64_t n) {
  for (size_t k = 0; k < passes.size(); k++) {
    const Pass &pass = passes[k];
    std::vector<float> hat(static_cast<size_t>(int64_t{pass.height} * pass.width * (pass.channels + 1)), -77.0f);
    for (int64_t i = 0; i < pass.count(); i++) {
      const int64_t p = i / pass.channels, c = i % pass.channels;
      const int16_t value = pass.values[static_cast<size_t>(n)][static_cast<size_t>(i)];
      CHECK_EQ(decoded.symbols[k][static_cast<size_t>((n * pass.positions + p) * (pass.channels + kSymbolPad) + c)], value);
      const Place place = place_of(pass.grid, pass.width, static_cast<int32_t>(p));
      hat[static_cast<size_t>((int64_t{place.y} * pass.width + place.x) * (pass.channels + 1) + c)] =
          static_cast<float>(value) + pass.mean(n, i);
    }
    CHECK(std::memcmp(hat.data(), decoded.hat[k].data() + static_cast<size_t>(n) * hat.size(), hat.size() * 4) == 0);
    for (int64_t p = 0; p < pass.positions; p++) {
      for (int64_t c = pass.channels; c < pass.channels + kSymbolPad; c++) {
        CHECK_EQ(decoded.symbols[k][static_cast<size_t>((n * pass.positions + p) * (pass.channels + kSymbolPad) + c)], kUntouched);
      }
    }
  }
}

std::vector<Pass> image_passes(Random *random, int32_t images, int32_t height, int32_t width, int32_t channels, double wild) {
  return {make_pass(random, images, false, COMNECK_FULL, (height + 3) / 4, (width + 3) / 4, channels, wild),
          make_pass(random, images, true, COMNECK_ANCHORS, height, width, channels, wild),
          make_pass(random, images, true, COMNECK_NON_ANCHORS, height, width, channels, wild)};
}

void check_round_trips() {
  Random random{11};
  const int32_t shapes[][3] = {{1, 1, 1}, {1, 2, 31}, {1, 3, 32}, {2, 2, 33}, {3, 5, 7}, {4, 4, 16}, {5, 4, 40}, {8, 8, 24}};
  for (const auto &[height, width, channels] : shapes) {
    for (const int32_t images : {1, 3, 5}) {
      const std::vector<Pass> passes = image_passes(&random, images, height, width, channels, 0.02);
      for (const int32_t most : {1, 5, 32}) {
        std::vector<Payload> payloads;
        for (int32_t n = 0; n < images; n++) payloads.push_back(encode(passes, n, most == 5 ? 1 + n * 3 % 5 : most));
        for (const int32_t per_block : {1, 4}) {
          if (images == 3 && (per_block == 4) != (most == 5)) continue;
          const Decoded decoded = decode(passes, payloads, per_block);
          for (int32_t n = 0; n < images; n++) {
            const char *message = decoded.damage[static_cast<size_t>(n)].message;
            if (message[0] != 0) std::fprintf(stderr, "image %d of %d, %dx%dx%d: %s\n", n, images, height, width, channels, message);
            CHECK(message[0] == 0);
            check_image(passes, decoded, n);
          }
        }
      }
    }
  }
}

void check_nothing() {
  RansDecodeCall call{};
  call.channels = 1;
  call.layout.tables = 1;
  CHECK(rans_decode(call, 1, nullptr) == cudaSuccess);  // no image
  CHECK(rans_finish(nullptr, 0, nullptr, nullptr, 0, 0, nullptr) == cudaSuccess);
  CHECK(rans_decode(call, 5, nullptr) == cudaErrorInvalidValue);
  call.channels = 2;
  CHECK(rans_decode(call, 1, nullptr) == cudaErrorInvalidValue);  // a channel without a table
}

// Rarely, wild symbols only: long escapes everywhere.
void check_escapes() {
  Random random{12};
  const std::vector<Pass> passes = image_passes(&random, 2, 4, 4, 20, 0.9);
  const Decoded decoded = decode(passes, {encode(passes, 0, 2), encode(passes, 1, 1)}, 4);
  for (int32_t n = 0; n < 2; n++) {
    CHECK(decoded.damage[static_cast<size_t>(n)].message[0] == 0);
    check_image(passes, decoded, n);
  }
}

// The verdict of the processor's decoder on the same bytes.
bool processor_accepts(const std::vector<Pass> &passes, const Payload &payload, int64_t n) {
  RansDecoder decoder(COMNECK_ISA_PORTABLE);
  int32_t status = decoder.start(payload.bytes.data(), static_cast<int64_t>(payload.bytes.size()));
  for (const Pass &pass : passes) {
    std::vector<int16_t> out(static_cast<size_t>(pass.count()));
    if (status == COMNECK_OK) status = decoder.decode(pass.tables(), pass.indices[static_cast<size_t>(n)].data(), out.data(), pass.count());
  }
  return status == COMNECK_OK && decoder.finish(payload.checksum) == COMNECK_OK;
}

// Random damage to the middle one of three images.
void check_damage() {
  Random random{13};
  const std::vector<Pass> passes = image_passes(&random, 3, 4, 3, 9, 0.1);
  const std::vector<Payload> good{encode(passes, 0, 1), encode(passes, 1, 3), encode(passes, 2, 2)};
  int refused = 0;
  for (int variant = 0; variant < 150; variant++) {
    std::vector<Payload> payloads = good;
    std::vector<uint8_t> &bytes = payloads[1].bytes;
    const size_t at = static_cast<size_t>(random.below(static_cast<int64_t>(bytes.size())));
    switch (variant % 6) {
      case 0: bytes.resize(at); break;
      case 1: bytes[at] = static_cast<uint8_t>(bytes[at] ^ 1 << random.below(8)); break;
      case 2: bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), 2, static_cast<uint8_t>(random.next())); break;
      case 3: bytes.erase(bytes.begin() + static_cast<std::ptrdiff_t>(at)); break;
      case 4: for (uint8_t &byte : bytes) byte = static_cast<uint8_t>(random.next()); bytes[0] = static_cast<uint8_t>(variant % 32); break;
      default: payloads[1].checksum ^= 1u << random.below(32); break;
    }
    const Decoded decoded = decode(passes, payloads, variant % 2 == 0 ? 1 : 4);
    check_image(passes, decoded, 0);
    check_image(passes, decoded, 2);
    CHECK(decoded.damage[0].message[0] == 0 && decoded.damage[2].message[0] == 0);
    const bool accepted = decoded.damage[1].message[0] == 0;
    CHECK_EQ(accepted, processor_accepts(passes, payloads[1], 1));
    CHECK(accepted || decoded.damage[1].offset <= static_cast<int64_t>(bytes.size()));
    refused += accepted ? 0 : 1;
  }
  CHECK(refused > 140);
}

}  // namespace

int main() {
  check_nothing();
  check_round_trips();
  check_escapes();
  check_damage();
  return 0;
}
