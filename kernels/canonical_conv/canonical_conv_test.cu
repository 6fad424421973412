// Layers of every kind against the chain of docs/arithmetic.md written down naively: bit by bit, with both tiles, at ragged sizes, with
// zeros of both signs, subnormals and infinities where a tap is outside.
#include "canonical_conv/canonical_conv.h"

#include <bit>
#include <cmath>
#include <memory>
#include <random>

#include "backend/bits.h"
#include "backend/context.h"
#include "device_array.h"
#include "elements.h"
#include "grids.h"

using namespace comneck;
using namespace comneck::cuda;

namespace {

std::mt19937 generator(7);
uint32_t random_bits() { return static_cast<uint32_t>(generator()); }
int32_t below(int32_t n) { return static_cast<int32_t>(random_bits() % static_cast<uint32_t>(n)); }

float hard(bool infinities) {
  const uint32_t bits = random_bits();
  switch (bits % 16) {
    case 0: return 0.0f;
    case 1: return -0.0f;
    case 2: return std::bit_cast<float>(random_bits() & 0x807FFFFFu);
    case 3: return std::bit_cast<float>((random_bits() & 0x807FFFFFu) | 0x4A000000u);
    case 4: return infinities && bits % 7 == 0 ? std::bit_cast<float>(0x7F800000u | (random_bits() & 0x80000000u)) : 1.0f;
    default: return static_cast<float>(static_cast<int32_t>(random_bits())) * 1e-9f;
  }
}

struct Case {
  const char *name;
  int32_t images, height, width, outputs, kernel, stride, padding, kind, grid;
  std::vector<int32_t> sources;  // channels; negative: absent
  bool half_source = false;      // the first source lies on the destination's grid
  bool residual = false;
  int32_t function = COMNECK_NONE;
  bool bf16 = false;        // sources, residual and destination are stored so
  bool rounded = false;     // a BF16 layer
  bool infinities = false;
};

int32_t positions_of_grid(int32_t grid, int32_t height, int32_t width) {
  const int32_t all = height * width;
  return grid == COMNECK_FULL ? all : grid == COMNECK_ANCHORS ? (all + 1) / 2 : all / 2;
}

// A buffer with a few channels more than the view on both sides.
struct Buffer {
  int32_t before, channels, stride;
  bool bf16;
  std::vector<float> values;  // what memory holds: rounded where it is bf16

  Buffer(int64_t positions, int32_t count, bool stored_bf16, bool infinities)
      : before(below(3)), channels(count), stride(before + count + below(3)), bf16(stored_bf16) {
    values.resize(static_cast<size_t>(positions * stride));
    for (float &value : values) value = bf16 ? from_bf16(to_bf16(hard(infinities))) : hard(infinities);
  }
  float at(int64_t position, int64_t c) const { return values[static_cast<size_t>(position * stride + before + c)]; }
  std::vector<uint8_t> bytes() const {
    std::vector<uint8_t> all(values.size() * (bf16 ? 2 : 4));
    for (size_t i = 0; i < values.size(); i++) {
      const uint16_t half = to_bf16(values[i]);
      if (bf16) {
        std::memcpy(&all[i * 2], &half, 2);
      } else {
        std::memcpy(&all[i * 4], &values[i], 4);
      }
    }
    return all;
  }
  Side side(uint8_t *device) const {
    return {device + before * (bf16 ? 2 : 4), stride, bf16 ? COMNECK_BF16 : COMNECK_F32};
  }
};

void check_case(const Case &c) {
  const bool transposed = c.kind == COMNECK_TRANSPOSED;
  const int32_t out_h = transposed ? c.height * c.stride : (c.height + 2 * c.padding - c.kernel) / c.stride + 1;
  const int32_t out_w = transposed ? c.width * c.stride : (c.width + 2 * c.padding - c.kernel) / c.stride + 1;
  const int32_t positions = positions_of_grid(c.grid, out_h, out_w);
  int32_t inputs = 0;
  for (const int32_t channels : c.sources) inputs += std::abs(channels);
  std::vector<float> weight(static_cast<size_t>(inputs * c.outputs * c.kernel * c.kernel));
  for (float &value : weight) value = hard(c.infinities);
  std::vector<float> bias(static_cast<size_t>(c.outputs));
  for (float &value : bias) value = hard(false);
  bias[0] = -0.0f;  // stays -0 only if nothing is added
  const comneck_convolution geometry{inputs,   c.outputs, c.kernel, c.kernel, c.stride,
                                     c.padding, c.kind,   c.rounded ? COMNECK_PRECISION_BF16 : COMNECK_PRECISION_F32};
  const ConvLayer layer = pack_layer(geometry, weight.data(), bias.data());

  ConvCall call{};
  std::vector<Buffer> buffers;
  std::vector<std::unique_ptr<DeviceArray<uint8_t>>> memory;
  int32_t first = 0;
  for (size_t s = 0; s < c.sources.size(); s++) {
    const bool half = c.half_source && s == 0;
    const int64_t each = half ? positions : int64_t{c.height} * c.width;
    buffers.emplace_back(each * c.images, std::abs(c.sources[s]), c.bf16, c.infinities);
    memory.push_back(std::make_unique<DeviceArray<uint8_t>>(buffers.back().bytes()));
    if (c.sources[s] > 0) {
      call.sources[call.source_count++] = {buffers.back().side(memory.back()->data()), c.sources[s], first, half && c.grid != COMNECK_FULL};
    }
    first += std::abs(c.sources[s]);
  }
  const Buffer residual(int64_t{positions} * c.images, c.outputs, c.bf16, c.infinities);
  const Buffer destination(int64_t{positions} * c.images, c.outputs, c.bf16, false);
  DeviceArray<uint8_t> device_residual(residual.bytes());
  DeviceArray<uint8_t> device_destination(destination.bytes());
  DeviceArray<float> device_weights(layer.weights);
  DeviceArray<float> device_bias(layer.bias);
  DeviceArray<ConvTap> device_taps(layer.taps);
  DeviceArray<ConvPhase> device_phases(layer.phases);
  call.weights = device_weights.data();
  call.bias = device_bias.data();
  call.taps = device_taps.data();
  call.phases = device_phases.data();
  call.phase_count = static_cast<int32_t>(layer.phases.size());
  call.input_channels = inputs;
  call.outputs = c.outputs;
  call.columns = layer.columns;
  call.input_height = c.height;
  call.input_width = c.width;
  call.input_step = layer.input_step;
  call.output_step = layer.output_step;
  call.images = c.images;
  call.grid = c.grid;
  call.height = out_h;
  call.width = out_w;
  call.positions = positions;
  call.rounded = c.rounded;
  if (c.residual) call.residual = residual.side(device_residual.data());
  call.function = c.function;
  call.destination = destination.side(device_destination.data());

  Buffer expected = destination;
  for (int64_t n = 0; n < c.images; n++) {
    for (int32_t p = 0; p < positions; p++) {
      const Place place = place_of(c.grid, out_w, p);
      for (int32_t o = 0; o < c.outputs; o++) {
        float sum = bias[static_cast<size_t>(o)];
        for (int32_t ky = 0; ky < c.kernel; ky++) {
          for (int32_t kx = 0; kx < c.kernel; kx++) {
            if (c.kind == COMNECK_CHECKERBOARD && (ky + kx) % 2 == 0) continue;
            int32_t y = place.y * c.stride + ky - c.padding;
            int32_t x = place.x * c.stride + kx - c.padding;
            if (transposed) {
              y = place.y + c.padding - ky;
              x = place.x + c.padding - kx;
              if (y % c.stride != 0 || x % c.stride != 0) continue;
              y /= c.stride;
              x /= c.stride;
            }
            if (y < 0 || x < 0 || y >= c.height || x >= c.width) continue;
            int64_t k = 0;
            for (size_t s = 0; s < c.sources.size(); s++) {
              for (int32_t i = 0; i < std::abs(c.sources[s]); i++, k++) {
                if (c.sources[s] < 0) continue;
                const bool half = c.half_source && s == 0;
                const int64_t from = half ? n * positions + p : (n * c.height + y) * c.width + x;
                const int64_t filter = transposed ? k * c.outputs + o : int64_t{o} * inputs + k;
                float w = weight[static_cast<size_t>((filter * c.kernel + ky) * c.kernel + kx)];
                float value = buffers[s].at(from, i);
                if (c.rounded) w = from_bf16(to_bf16(w)), value = from_bf16(to_bf16(value));
                sum = fmaf(value, w, sum);
              }
            }
          }
        }
        const int64_t at = n * positions + p;
        if (c.residual) sum = sum + residual.at(at, o);
        if (c.function == COMNECK_RELU) sum = sum > 0.0f ? sum : 0.0f;
        if (c.function == COMNECK_QUICK_GELU) sum = canonical::quick_gelu<PortableLanes>(sum);
        if (c.function == COMNECK_GELU) sum = canonical::gelu<PortableLanes>(sum);
        expected.values[static_cast<size_t>(at * expected.stride + expected.before + o)] = c.bf16 ? from_bf16(to_bf16(sum)) : sum;
      }
    }
  }

  for (const ConvTile tile : {ConvTile::kSmall, ConvTile::kLarge}) {
    device_destination.fill(destination.bytes());
    CHECK(canonical_conv(call, tile, 1, nullptr) == cudaSuccess);
    const std::vector<uint8_t> bytes = device_destination.to_host();
    for (size_t i = 0; i < expected.values.size(); i++) {
      uint32_t bits = 0;
      std::memcpy(&bits, &bytes[i * (c.bf16 ? 2 : 4)], c.bf16 ? 2 : 4);
      const float actual = std::bit_cast<float>(c.bf16 ? bits << 16 : bits);
      const float wanted = expected.values[i];
      const bool both_nan = actual != actual && wanted != wanted;
      if (!both_nan && std::bit_cast<uint32_t>(actual) != std::bit_cast<uint32_t>(wanted)) {
        std::fprintf(stderr, "%s, %s tile, element %zu of %zu: %a instead of %a\n", c.name, tile == ConvTile::kSmall ? "small" : "large", i,
                     expected.values.size(), static_cast<double>(actual), static_cast<double>(wanted));
        CHECK(false);
      }
    }
  }
}

// The kinds of layer that the entropy networks have, with few channels, and the sizes at which tiles end.
void check_layers() {
  const auto D = COMNECK_DIRECT, C = COMNECK_CHECKERBOARD, T = COMNECK_TRANSPOSED;
  const auto F = COMNECK_FULL, A = COMNECK_ANCHORS, N = COMNECK_NON_ANCHORS;
  const Case cases[] = {
      {"h_s.0", 2, 3, 2, 12, 5, 2, 2, T, F, {9}, false, false, COMNECK_RELU},
      {"h_s.4", 1, 5, 6, 33, 3, 1, 1, D, F, {17}},
      {"h_a.2", 1, 7, 6, 20, 5, 2, 2, D, F, {16}, false, false, COMNECK_RELU},
      {"channel context", 2, 4, 5, 31, 5, 1, 2, D, F, {16, 5}, false, false, COMNECK_RELU},
      {"checkerboard", 2, 5, 4, 32, 5, 1, 2, C, N, {16}},
      {"aggregation, anchors", 2, 5, 5, 40, 1, 1, 0, D, A, {-8, 12, 33}, false, false, COMNECK_RELU},
      {"aggregation, non-anchors", 2, 5, 5, 40, 1, 1, 0, D, N, {8, 12, 33}, true, false, COMNECK_RELU},
      {"one position", 1, 1, 1, 1, 1, 1, 0, D, F, {1}},
      {"one position, taps outside", 1, 1, 1, 3, 5, 1, 2, D, F, {2}, false, true},
      {"31 rows", 1, 1, 31, 31, 1, 1, 0, D, F, {31}, false, true},
      {"32 rows", 1, 4, 8, 32, 1, 1, 0, D, F, {32}, false, true},
      {"33 rows", 3, 1, 11, 33, 1, 1, 0, D, F, {33}, false, true, COMNECK_RELU},
      {"129 rows", 1, 3, 43, 65, 1, 1, 0, D, F, {15}, false, true, COMNECK_QUICK_GELU},
      {"odd transposed", 1, 2, 3, 5, 4, 3, 1, T, F, {6}},
      {"transposed with a phase without taps", 1, 2, 2, 4, 2, 3, 1, T, F, {3}},
      {"patches", 1, 8, 12, 10, 4, 4, 0, D, F, {3}},
      {"bf16 in and out", 1, 4, 4, 24, 3, 1, 1, D, F, {20}, false, true, COMNECK_GELU, true, false},
      {"a bf16 layer", 1, 3, 3, 24, 1, 1, 0, D, F, {20}, false, true, COMNECK_NONE, false, true},
      {"infinities", 1, 4, 4, 9, 3, 1, 1, D, A, {10}, false, true, COMNECK_NONE, false, false, true},
      {"infinite weights at the border", 2, 3, 3, 9, 5, 2, 2, T, F, {7}, false, false, COMNECK_RELU, false, false, true},
  };
  for (const Case &c : cases) check_case(c);
}

void check_random() {
  for (int i = 0; i < 60; i++) {
    Case c{"random", 1 + below(2), 1 + below(6), 1 + below(6), 1 + below(40), 1 + 2 * below(3), 1, 0, below(3), COMNECK_FULL, {}};
    c.padding = c.kernel / 2;
    c.residual = below(2) == 0;
    c.infinities = below(4) == 0;
    if (c.kind == COMNECK_TRANSPOSED) {
      c.stride = 1 + below(3);
      c.padding = below(3);
      c.kernel = 1 + below(c.stride + 2 * c.padding);
    } else {
      c.stride = c.kind == COMNECK_DIRECT ? 1 + below(2) : 1;
      if (c.stride == 1 && c.height * c.width > 1) c.grid = below(3);
    }
    const int32_t count = 1 + below(3);
    for (int32_t s = 0; s < count; s++) c.sources.push_back(1 + below(40));
    if (count > 1 && below(2) == 0) c.sources[1] = -c.sources[1];
    check_case(c);
  }
}

}  // namespace

int main() {
  check_layers();
  check_random();
  ConvCall call{};
  CHECK(canonical_conv(call, ConvTile::kAuto, 1, nullptr) == cudaErrorInvalidValue);
  call.source_count = 1;
  call.phase_count = 1;
  call.output_step = 1;
  CHECK(canonical_conv(call, ConvTile::kAuto, 1, nullptr) == cudaSuccess);  // no rows
  return 0;
}
