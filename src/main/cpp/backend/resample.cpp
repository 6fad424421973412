// Resampling of 8-bit pictures along one axis: integers, so the same bytes in any order of additions.
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "backend/plan.h"

namespace comneck {
namespace {

constexpr int32_t kPrecisionBits = 22;  // of a weight; check_resample makes sure that sums stay within 32 bits

uint8_t byte_of(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255)); }

class Resample final : public Step {
 public:
  Resample(const comneck_view &pixels, bool rows, const int32_t *taps, int64_t taps_bytes, const comneck_view &destination)
      : from_(pixels),
        to_(destination),
        rows_(rows),
        taps_(taps, taps + taps_bytes / 4),
        each_(taps_bytes / 4 / (rows ? destination.height : destination.width)) {}

  // A row of the destination each.
  void execute(const Execution &execution) const override {
    execution.pool.run(int64_t{to_.images} * to_.height, [&](int64_t row, int32_t) {
      const auto *source = reinterpret_cast<const uint8_t *>(at(execution, from_));
      auto *destination = reinterpret_cast<uint8_t *>(at(execution, to_)) + row * to_.width * to_.channel_stride;
      const int64_t image = row / to_.height, y = row % to_.height;
      if (rows_) {
        const int32_t *tap = taps_.data() + y * each_;
        add_rows(source + (image * from_.height + tap[0]) * from_.width * from_.channel_stride, tap, destination);
      } else {
        along_row(source + row * from_.width * from_.channel_stride, destination);
      }
    });
  }

 private:
  // source: the first row that counts. Some positions at a time, so that their sums stay in the first cache.
  void add_rows(const uint8_t *source, const int32_t *tap, uint8_t *destination) const {
    constexpr int64_t kSums = 1024;
    int32_t sums[kSums];
    const int64_t elements = int64_t{to_.width} * from_.channel_stride;
    for (int64_t first = 0; first < elements; first += kSums) {
      const int64_t count = std::min(kSums, elements - first);
      std::fill(sums, sums + count, 1 << (kPrecisionBits - 1));
      for (int32_t k = 0; k < tap[1]; k++) {
        const uint8_t *from = source + k * elements + first;
        const int32_t weight = tap[2 + k];
        for (int64_t i = 0; i < count; i++) sums[i] += from[i] * weight;
      }
      if (to_.channels == from_.channel_stride && to_.channels == to_.channel_stride) {
        for (int64_t i = 0; i < count; i++) destination[first + i] = byte_of(sums[i]);
      } else {
        for (int64_t i = 0; i < count; i++) {
          const int64_t x = (first + i) / from_.channel_stride, c = (first + i) % from_.channel_stride;
          if (c < to_.channels) destination[x * to_.channel_stride + c] = byte_of(sums[i]);
        }
      }
    }
  }

  void along_row(const uint8_t *source, uint8_t *destination) const {
    for (int64_t x = 0; x < to_.width; x++) {
      const int32_t *tap = taps_.data() + x * each_;
      for (int64_t c = 0; c < to_.channels; c++) {
        const uint8_t *from = source + tap[0] * from_.channel_stride + c;
        int32_t sum = 1 << (kPrecisionBits - 1);
        for (int32_t k = 0; k < tap[1]; k++) sum += from[k * from_.channel_stride] * tap[2 + k];
        destination[x * to_.channel_stride + c] = byte_of(sum);
      }
    }
  }

  comneck_view from_;
  comneck_view to_;
  bool rows_;
  std::vector<int32_t> taps_;
  int64_t each_;
};

}  // namespace
}  // namespace comneck

using namespace comneck;

int32_t comneck_plan_resample(comneck_plan *plan, const comneck_view *pixels, int32_t rows, const int32_t *taps, int64_t taps_bytes,
                              const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    if (const int32_t failed = plan->check_view(pixels, "the pixels", COMNECK_U8); failed != COMNECK_OK) return failed;
    if (const int32_t failed = plan->check_view(destination, "the destination", COMNECK_U8); failed != COMNECK_OK) return failed;
    if (const int32_t failed = check_resample(*pixels, rows, taps, taps_bytes, *destination); failed != COMNECK_OK) return failed;
    return plan->add(std::make_unique<Resample>(*pixels, rows != 0, taps, taps_bytes, *destination));
  });
}
