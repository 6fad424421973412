// What a plan's encoding step makes of each image. An image that cannot be encoded harms no other one.
#ifndef COMNECK_ENTROPY_ENCODED_IMAGES_H
#define COMNECK_ENTROPY_ENCODED_IMAGES_H

#include <cstdint>
#include <new>
#include <vector>

#include "entropy/rans_encoder.h"

namespace comneck {

class EncodedImages {
 public:
  enum class Outcome { kNothing, kEncoded, kNoTable, kOutOfMemory };
  struct Image {
    Outcome outcome = Outcome::kNothing;
    std::vector<uint8_t> payload;
    uint32_t checksum = 0;
  };

  EncodedImages(int32_t images, int32_t threads, int32_t passes)
      : images_(static_cast<size_t>(images)), workers_(static_cast<size_t>(threads)) {
    for (Worker &worker : workers_) worker.passes.resize(static_cast<size_t>(passes));
  }

  int32_t images() const { return static_cast<int32_t>(images_.size()); }
  const Image &image(int32_t n) const { return images_[static_cast<size_t>(n)]; }

  // A thread's list of passes, to be filled in for the image that it encodes next.
  std::vector<RansPass> &passes(int32_t thread) { return workers_[static_cast<size_t>(thread)].passes; }

  void encode(int64_t n, int32_t thread, int32_t substreams) {
    Image &it = images_[static_cast<size_t>(n)];
    Worker &worker = workers_[static_cast<size_t>(thread)];
    it.outcome = Outcome::kNoTable;
    for (const RansPass &pass : worker.passes) {
      for (int64_t i = 0; i < pass.count; i++) {
        if (pass.indices[i] >= pass.tables->tables) return;
      }
    }
    try {
      worker.encoder.encode(worker.passes.data(), static_cast<int32_t>(worker.passes.size()), substreams);
      it.payload = worker.encoder.payload();
      it.checksum = worker.encoder.symbol_checksum();
      it.outcome = Outcome::kEncoded;
    } catch (const std::bad_alloc &) {
      it.outcome = Outcome::kOutOfMemory;
    }
  }

 private:
  struct Worker {
    RansEncoder encoder;
    std::vector<RansPass> passes;
  };
  std::vector<Image> images_;
  std::vector<Worker> workers_;
};

}  // namespace comneck

#endif
