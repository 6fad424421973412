// Every step against the processor's rows of vision.h and quantize.h, bit by bit: ragged sizes around a warp and a block, F32 and BF16 on
// every side, strided views whose neighbours stay untouched, zeros of both signs, subnormals, infinities and NaN.
#include "elementwise/elementwise.h"

#include "entropy/quantize.h"
#include "strided_buffer.h"
#include "vision/vision.h"

using namespace comneck;
using namespace comneck::cuda;

namespace {

constexpr int32_t kTypes[] = {COMNECK_F32, COMNECK_BF16};
constexpr int64_t kRowCounts[] = {0, 1, 31, 32, 33, 300};
constexpr int32_t kChannelCounts[] = {1, 3, 31, 32, 33};

Rows rows_of(StridedBuffer *buffer) { return {buffer->data(), buffer->type, buffer->stride}; }
MutableRows mutable_rows_of(StridedBuffer *buffer) { return {buffer->data(), buffer->type, buffer->stride}; }

const char *const kExactly = "copy of one type";

// Runs one step on both sides. expect(destination rows) computes the processor's, run(side) the device's.
template <class Expect, class Run>
void both(const char *what, StridedBuffer destination, const Expect &expect, const Run &run) {
  DeviceArray<uint8_t> device(destination.bytes);
  CHECK(run(destination.side(device.data())) == cudaSuccess);
  const std::vector<uint8_t> found = device.to_host();
  StridedBuffer expected = destination;
  expect(mutable_rows_of(&expected));
  destination.check_same(expected.bytes, found, what);
  if (what == kExactly) CHECK(expected.bytes == found);
}

void check_pointwise() {
  Random random{51};
  const VisionKernels &processor = vision_portable();
  for (const int64_t rows : kRowCounts) {
    for (const int32_t channels : kChannelCounts) {
      for (const int32_t type : kTypes) {
        const int32_t other = random.below(2) == 0 ? COMNECK_F32 : COMNECK_BF16;
        const Extent extent{rows, channels};
        StridedBuffer a(&random, rows, channels, type, true), b(&random, rows, channels, other, true), x(&random, rows, channels, type, true);
        const StridedBuffer to(&random, rows, channels, other, false);
        const DeviceArray<uint8_t> da(a.bytes), db(b.bytes), dx(x.bytes);
        const auto at = [](const StridedBuffer &buffer, const DeviceArray<uint8_t> &memory) {
          return buffer.side(const_cast<uint8_t *>(memory.data()));
        };
        both("gate", to, [&](MutableRows out) { processor.gate({rows_of(&a), rows_of(&b), rows_of(&x), out, channels}, 0, rows); },
             [&](Side out) { return gate(at(a, da), at(b, db), at(x, dx), out, extent, nullptr); });
        both("add", to, [&](MutableRows out) { processor.add({rows_of(&a), rows_of(&b), out, channels}, 0, rows); },
             [&](Side out) { return add(at(a, da), at(b, db), out, extent, nullptr); });

        // images of 1, 3 or all positions; gains are F32, one row an image
        for (const int64_t positions : {int64_t{1}, int64_t{3}, std::max<int64_t>(rows, 1)}) {
          if (rows % positions != 0) continue;
          StridedBuffer gains(&random, rows / positions, channels, COMNECK_F32, true);
          const DeviceArray<uint8_t> dg(gains.bytes);
          both("scale", to,
               [&](MutableRows out) {
                 processor.scale({rows_of(&a), out, reinterpret_cast<const float *>(gains.data()), gains.stride, positions, channels}, 0, rows);
               },
               [&](Side out) { return scale(at(a, da), at(gains, dg), out, extent, positions, nullptr); });
        }
      }
    }
  }
}

// Some tokens of each image, and tokens with a class token and positions.
void check_tokens() {
  Random random{52};
  const VisionKernels &processor = vision_portable();
  for (const int32_t channels : kChannelCounts) {
    for (const int64_t tokens : {1, 31, 32, 33, 150}) {
      for (const int64_t images : {0, 1, 3}) {
        for (const int32_t type : kTypes) {
          const int32_t other = random.below(2) == 0 ? COMNECK_F32 : COMNECK_BF16;
          StridedBuffer from(&random, images * tokens, channels, type, true);
          // what no arithmetic makes: a copy without conversion keeps its bits
          for (size_t i = 0; i + 1 < from.bytes.size(); i += 22) {
            const uint16_t signalling = 0x7F81;
            if (type == COMNECK_BF16) std::memcpy(&from.bytes[i], &signalling, 2);
          }
          const DeviceArray<uint8_t> device_from(from.bytes);
          const Side side = from.side(const_cast<uint8_t *>(device_from.data()));
          for (const int64_t first : {int64_t{0}, std::min<int64_t>(1, tokens - 1), tokens - 1}) {
            const int64_t taken = 1 + random.below(tokens - first);
            both(type == other ? kExactly : "copy", StridedBuffer(&random, images * taken, channels, other, false),
                 [&](MutableRows out) { processor.copy({rows_of(&from), out, tokens, taken, first, channels}, 0, images * taken); },
                 [&](Side out) { return copy(side, tokens, first, out, taken, {images * taken, channels}, nullptr); });
          }
          for (const int32_t shift : {0, 1}) {
            const int64_t all = tokens + shift;
            std::vector<float> token, table;
            for (int64_t i = 0; i < shift * channels; i++) token.push_back(hard_value(&random, true));
            for (int64_t i = 0; i < all * channels; i++) table.push_back(hard_value(&random, true));
            const DeviceArray<float> device_token(token), device_table(table);
            both("embed", StridedBuffer(&random, images * all, channels, other, false),
                 [&](MutableRows out) {
                   processor.embed({rows_of(&from), out, shift == 0 ? nullptr : token.data(), table.data(), all, channels}, 0, images * all);
                 },
                 [&](Side out) {
                   return embed(side, device_token.data(), device_table.data(), out, all, shift, {images * all, channels}, nullptr);
                 });
          }
        }
      }
    }
  }
}

void check_pixels() {
  Random random{53};
  const VisionKernels &processor = vision_portable();
  for (const int64_t rows : kRowCounts) {
    for (const int32_t channels : {1, 3, 33}) {
      const int64_t stride = channels + random.below(3);
      std::vector<uint8_t> pixels(static_cast<size_t>(rows * stride));
      for (uint8_t &pixel : pixels) pixel = static_cast<uint8_t>(random.next());
      std::vector<float> mean, deviation, table(static_cast<size_t>(channels) * 256);
      for (int32_t c = 0; c < channels; c++) {
        mean.push_back(static_cast<float>(random.uniform()));
        deviation.push_back(static_cast<float>(random.uniform()) + 0.01f);
      }
      normalize_table(mean.data(), deviation.data(), channels, table.data());
      const DeviceArray<uint8_t> device_pixels(pixels);
      const DeviceArray<float> device_mean(mean), device_deviation(deviation);
      for (const int32_t type : kTypes) {
        both("normalize", StridedBuffer(&random, rows, channels, type, false),
             [&](MutableRows out) { processor.normalize({pixels.data(), stride, out, table.data(), channels}, 0, rows); },
             [&](Side out) {
               return normalize(device_pixels.data(), stride, device_mean.data(), device_deviation.data(), out, {rows, channels}, nullptr);
             });

        // around every rounding border, below 0, above 1, and what no picture has
        StridedBuffer from(&random, 0, channels, type, false);
        for (int64_t i = 0; i < rows * from.stride; i++) {
          const float border = (static_cast<float>(random.below(257)) - 0.5f) / 255.0f;
          const float near = std::nextafter(border, random.below(2) == 0 ? -1.0f : 2.0f);
          from.put(random.below(4) == 0 ? hard_value(&random, true) : random.below(2) == 0 ? border : near);
        }
        const DeviceArray<uint8_t> device_from(from.bytes);
        std::vector<uint8_t> expected = pixels;
        DeviceArray<uint8_t> found(pixels);
        processor.to_pixels({rows_of(&from), expected.data(), stride, channels}, 0, rows);
        CHECK(to_pixels(from.side(const_cast<uint8_t *>(device_from.data())), found.data(), stride, {rows, channels}, nullptr) == cudaSuccess);
        CHECK(found.to_host() == expected);
      }
    }
  }
}

// A row of floats or bytes with a gap behind it.
template <class T>
struct Strided {
  Strided(int64_t rows, int32_t channels, int32_t gap, T value) : stride(channels + gap), values(static_cast<size_t>(rows * stride), value) {}
  T *row(int64_t r) { return values.data() + r * stride; }
  int64_t stride;
  std::vector<T> values;
};

// Equal, or both NaN.
void check_floats(const std::vector<float> &expected, const std::vector<float> &found) {
  CHECK(expected.size() == found.size());
  for (size_t i = 0; i < expected.size(); i++) {
    CHECK(std::bit_cast<uint32_t>(expected[i]) == std::bit_cast<uint32_t>(found[i]) || (std::isnan(expected[i]) && std::isnan(found[i])));
  }
}

float latent(Random *random, float mean) {
  switch (random->below(12)) {
    case 0: return mean + static_cast<float>(random->below(9)) - 4.5f;  // a tie, where the mean is an integer
    case 1: return static_cast<float>((random->uniform() * 2 - 1) * 40000);
    case 2: return hard_value(random, true);
    default: return static_cast<float>(random->uniform() * 16 - 8);
  }
}

void check_quantize() {
  Random random{54};
  const QuantizeKernels &processor = quantize_kernels_portable();
  struct Size {
    int32_t height, width;
  };
  constexpr Size kSizes[] = {{1, 1}, {1, 2}, {2, 1}, {1, 31}, {32, 1}, {3, 11}, {5, 7}, {16, 20}};
  for (const Size size : kSizes) {
    for (const int32_t channels : {1, 5, 33}) {
      for (const int32_t grid : {COMNECK_FULL, COMNECK_ANCHORS, COMNECK_NON_ANCHORS}) {
        for (const int32_t images : {1, 3}) {
          for (const int32_t thresholds : {1, 63, 255}) {
            const bool gaussian = grid != COMNECK_FULL || thresholds != 1;  // otherwise the factorized prior, on the full grid
            std::vector<int64_t> full;  // place on the full grid of each coded position
            for (int32_t y = 0; y < size.height; y++) {
              for (int32_t x = 0; x < size.width; x++) {
                const bool odd = (x + y) % 2 != 0;
                if (grid == COMNECK_FULL || odd == (grid == COMNECK_NON_ANCHORS)) full.push_back(int64_t{y} * size.width + x);
              }
            }
            const auto positions = static_cast<int64_t>(full.size());
            const int64_t area = int64_t{size.height} * size.width;
            std::vector<float> table;
            for (int32_t t = 0; t < thresholds; t++) table.push_back(static_cast<float>(t / 2) * 0.25f);  // some twice
            Strided<float> means(gaussian ? images * positions : 1, gaussian ? 2 * channels : channels, gaussian ? 2 : 0, 0.0f);
            for (float &mean : means.values) mean = random.below(3) == 0 ? static_cast<float>(random.below(5)) * 0.25f : latent(&random, 0);
            Strided<float> values(images * area, channels, 1, 0.0f), hat(images * area, channels, 2, 7.0f);
            for (int64_t r = 0; r < images * area; r++) {
              for (int64_t c = 0; c < values.stride; c++) values.row(r)[c] = latent(&random, static_cast<float>(random.below(3)));
            }
            Strided<int16_t> symbols(images * positions, channels, 1, int16_t{-77});
            Strided<uint8_t> indices(images * positions, channels, 3, uint8_t{199});
            const DeviceArray<float> device_means(means.values), device_values(values.values), device_table(table);
            DeviceArray<float> device_hat(hat.values);
            DeviceArray<int16_t> device_symbols(symbols.values);
            DeviceArray<uint8_t> device_indices(indices.values);
            QuantizeCall call{};
            call.values = device_values.data();
            call.values_stride = values.stride;
            call.means = device_means.data();
            call.means_stride = means.stride;
            call.thresholds = gaussian ? device_table.data() : nullptr;
            call.threshold_count = thresholds;
            call.indices = device_indices.data();
            call.indices_stride = indices.stride;
            call.symbols = device_symbols.data();
            call.symbols_stride = symbols.stride;
            call.hat = device_hat.data();
            call.hat_stride = hat.stride;
            call.images = images;
            call.grid = grid;
            call.height = size.height;
            call.width = size.width;
            call.positions = static_cast<int32_t>(positions);
            call.channels = channels;
            CHECK(quantize(call, nullptr) == cudaSuccess);
            for (int64_t r = 0; r < images * positions; r++) {
              const int64_t at = r / positions * area + full[static_cast<size_t>(r % positions)];
              const float *mean = means.row(gaussian ? r : 0);
              processor.quantize(values.row(at), mean, symbols.row(r), hat.row(at), channels);
              if (gaussian) processor.indices(mean + channels, table.data(), thresholds, indices.row(r), channels);
            }
            CHECK(device_symbols.to_host() == symbols.values);
            CHECK(device_indices.to_host() == indices.values);
            check_floats(hat.values, device_hat.to_host());
          }
        }
      }
    }
  }
}

void check_misuse() {
  const Side none{nullptr, 1, COMNECK_F32};
  CHECK(add(none, none, none, {-1, 4}, nullptr) == cudaErrorInvalidValue);
  CHECK(add(none, none, none, {4, 0}, nullptr) == cudaErrorInvalidValue);
  CHECK(add(none, none, none, {int64_t{1} << 40, 1 << 20}, nullptr) == cudaErrorInvalidValue);  // more blocks than a grid has
  CHECK(add(none, none, none, {0, 4}, nullptr) == cudaSuccess);
}

}  // namespace

int main() {
  check_misuse();
  check_pointwise();
  check_tokens();
  check_pixels();
  check_quantize();
  return 0;
}
