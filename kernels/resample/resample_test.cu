// Against a plain loop in 64-bit integers: sizes around a warp and a block, one pixel, growing and shrinking, padded channels, batches.
#include "resample/resample.h"

#include <algorithm>

#include "device_array.h"
#include "rans_symbols.h"

using namespace comneck;
using namespace comneck::cuda;

namespace {

struct Case {
  int32_t images, height, width, channels, to;
  bool rows;
};

// Any taps do: the kernel knows no filter. Weights of both signs, whose sums overrun a byte at both ends.
std::vector<int32_t> taps_of(Random *random, int32_t size, int32_t to, int32_t most) {
  std::vector<int32_t> taps;
  for (int32_t i = 0; i < to; i++) {
    const auto count = 1 + static_cast<int32_t>(random->below(std::min(most, size)));
    taps.push_back(static_cast<int32_t>(random->below(size - count + 1)));
    taps.push_back(count);
    for (int32_t k = 0; k < most; k++) taps.push_back(static_cast<int32_t>((random->uniform() * 3 - 1) * (1 << 22) / count));
  }
  return taps;
}

void check_case(Random *random, const Case &it, int32_t most, int64_t padding) {
  const int32_t size = it.rows ? it.height : it.width;
  const int32_t height = it.rows ? it.to : it.height, width = it.rows ? it.width : it.to;
  const int64_t stride = it.channels + padding;
  std::vector<uint8_t> source(static_cast<size_t>(it.images * it.height * it.width * stride));
  for (uint8_t &x : source) x = static_cast<uint8_t>(std::min<int64_t>(255, random->below(300)));
  const std::vector<int32_t> taps = taps_of(random, size, it.to, most);
  std::vector<uint8_t> expected(static_cast<size_t>(it.images * height * width * stride), 7);
  for (int32_t n = 0; n < it.images; n++) {
    for (int32_t y = 0; y < height; y++) {
      for (int32_t x = 0; x < width; x++) {
        for (int32_t c = 0; c < it.channels; c++) {
          const int32_t *tap = taps.data() + (it.rows ? y : x) * (most + 2);
          int64_t sum = 1 << 21;
          for (int32_t k = 0; k < tap[1]; k++) {
            const int64_t from_y = it.rows ? tap[0] + k : y, from_x = it.rows ? x : tap[0] + k;
            sum += int64_t{source[static_cast<size_t>(((n * it.height + from_y) * it.width + from_x) * stride + c)]} * tap[2 + k];
          }
          expected[static_cast<size_t>(((int64_t{n} * height + y) * width + x) * stride + c)] =
              static_cast<uint8_t>(std::clamp<int64_t>(sum >> 22, 0, 255));
        }
      }
    }
  }
  DeviceArray<uint8_t> from(source), to(std::vector<uint8_t>(expected.size(), 7));
  DeviceArray<int32_t> device_taps(taps);
  const ResampleCall call{from.data(), stride, it.height, it.width, to.data(), stride, height, width, it.images, it.channels, it.rows, device_taps.data(), most};
  CHECK(resample(call, nullptr) == cudaSuccess);
  CHECK(to.to_host() == expected);
}

}  // namespace

int main() {
  Random random{23};
  for (const bool rows : {false, true}) {
    for (const int32_t size : {1, 2, 31, 32, 33, 100}) {
      for (const int32_t to : {1, 31, 32, 33, 86}) {
        const int32_t images = 1 + size % 3, other = 1 + (size + to) % 9, channels = to == 33 ? 1 : 3;
        const Case it{images, rows ? size : other, rows ? other : size, channels, to, rows};
        check_case(&random, it, 1 + to % 7, to == 32 ? 2 : 0);
      }
    }
  }
  ResampleCall none{};
  CHECK(resample(none, nullptr) == cudaErrorInvalidValue);
  none.channels = none.height = none.width = 1;
  CHECK(resample(none, nullptr) == cudaSuccess);
  return 0;
}
