// The payloads of a plan's images. Damage to one image stays with it.
#ifndef COMNECK_ENTROPY_PAYLOADS_H
#define COMNECK_ENTROPY_PAYLOADS_H

#include <cstdint>
#include <cstring>
#include <vector>

#include "comneck.h"
#include "entropy/rans_decoder.h"

namespace comneck {

class Payloads {
 public:
  Payloads(int32_t images, int32_t isa) : images_(static_cast<size_t>(images), Image(isa)) {}

  int32_t images() const { return static_cast<int32_t>(images_.size()); }

  void set(int32_t image, const uint8_t *bytes, int64_t size, uint32_t symbol_checksum) {
    Image &it = images_[static_cast<size_t>(image)];
    it.bytes.resize(static_cast<size_t>(size));
    if (size > 0) std::memcpy(it.bytes.data(), bytes, static_cast<size_t>(size));
    it.decoder.reserve(size);
    it.checksum = symbol_checksum;
  }

  // Damage is kept by the decoder, which answers every later call with it.
  void start(int64_t image) {
    Image &it = images_[static_cast<size_t>(image)];
    (void)it.decoder.start(it.bytes.data(), static_cast<int64_t>(it.bytes.size()));
  }
  void decode(int64_t image, const RansTables &tables, const uint8_t *indices, int16_t *symbols, int64_t count) {
    (void)images_[static_cast<size_t>(image)].decoder.decode(tables, indices, symbols, count);
  }
  void finish(int64_t image) {
    Image &it = images_[static_cast<size_t>(image)];
    (void)it.decoder.finish(it.checksum);
  }

  const RansDecoder &decoder(int32_t image) const { return images_[static_cast<size_t>(image)].decoder; }

 private:
  struct Image {
    explicit Image(int32_t isa) : decoder(isa) {}
    RansDecoder decoder;
    std::vector<uint8_t> bytes;
    uint32_t checksum = 0;
  };
  std::vector<Image> images_;
};

}  // namespace comneck

#endif
