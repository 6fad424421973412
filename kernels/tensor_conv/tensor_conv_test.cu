// The kernel against f64 on the same rounded numbers, from PyTorch's layout of weights: layers of every stride, padding and direction, both
// tiles, sources, residuals and destinations of every type, with NaNs in every gap of memory and nothing behind its end.
#include "tensor_conv/tensor_conv.h"

#include <cmath>
#include <random>

#include "backend/bits.h"
#include "check.h"
#include "device_array.h"

using namespace comneck;
using namespace comneck::cuda;

namespace {

constexpr uint8_t kUntouched = 0xCD;

uint16_t narrow(int32_t type, float x) { return type == COMNECK_BF16 ? to_bf16(x) : to_f16(x); }
float wide(int32_t type, uint16_t x) { return type == COMNECK_BF16 ? from_bf16(x) : from_f16(x); }

// Positions of `stride` elements, `before` of them in front of the first channel; what is not a channel is NaN. Ends with the last channel.
struct Pixels {
  int32_t type;
  int64_t positions, channels, before, stride;
  std::vector<uint8_t> bytes;

  Pixels(int32_t element, int64_t count, int64_t channel_count, bool odd)
      : type(element), positions(count), channels(channel_count), before(odd ? 1 : 8), stride((channel_count + 7) / 8 * 8 + (odd ? 9 : 16)) {
    bytes.assign(static_cast<size_t>(((positions - 1) * stride + before + channels) * size()), 0xFF);
  }
  int64_t size() const { return type == COMNECK_F32 ? 4 : 2; }
  size_t place(int64_t position, int64_t c) const { return static_cast<size_t>((position * stride + before + c) * size()); }
  void set(int64_t position, int64_t c, float x) {
    const uint16_t half = narrow(type, x);
    std::memcpy(&bytes[place(position, c)], type == COMNECK_F32 ? static_cast<const void *>(&x) : &half, static_cast<size_t>(size()));
  }
  float get(int64_t position, int64_t c) const {
    if (type == COMNECK_F32) {
      float x;
      std::memcpy(&x, &bytes[place(position, c)], 4);
      return x;
    }
    uint16_t half;
    std::memcpy(&half, &bytes[place(position, c)], 2);
    return wide(type, half);
  }
  Side side(DeviceArray<uint8_t> &device) const { return {device.data() + before * size(), stride, type}; }
};

struct Case {
  int32_t images, height, width, inputs, outputs;
  int32_t kernel, stride, padding, kind;
  int32_t type;      // of the product
  int32_t source;    // types of the others; residual -1: none
  int32_t residual;
  int32_t destination;
  int32_t function;
  bool odd = false;  // residual and destination lie at no multiple of anything

  int32_t out(int32_t size) const { return kind == COMNECK_TRANSPOSED ? size * stride : (size + 2 * padding - kernel) / stride + 1; }
  int64_t positions() const { return int64_t{images} * out(height) * out(width); }
};

struct Problem {
  Case c;
  std::vector<float> weight, bias;
  Pixels source, residual;
  ConvLayer layer;

  explicit Problem(const Case &chosen)
      : c(chosen), source(c.source, int64_t{c.images} * c.height * c.width, c.inputs, false), residual(c.residual < 0 ? COMNECK_F32 : c.residual, c.positions(), c.outputs, c.odd) {
    std::mt19937 generator(static_cast<uint32_t>(c.height * 31 + c.inputs * 7 + c.outputs + c.kernel));
    std::normal_distribution<float> normal;
    weight.resize(static_cast<size_t>(c.inputs) * static_cast<size_t>(c.outputs * c.kernel * c.kernel));
    for (float &w : weight) w = normal(generator) / std::sqrt(static_cast<float>(c.inputs * c.kernel * c.kernel)) * 2.0f;
    bias.resize(static_cast<size_t>(c.outputs));
    for (float &b : bias) b = normal(generator);
    for (Pixels *pixels : {&source, &residual}) {
      for (int64_t p = 0; p < pixels->positions; p++) {
        for (int64_t channel = 0; channel < pixels->channels; channel++) pixels->set(p, channel, normal(generator));
      }
    }
    const int32_t precision = c.type == COMNECK_BF16 ? COMNECK_PRECISION_BF16 : COMNECK_PRECISION_F32;  // F16 layers are packed unrounded
    layer = pack_layer({c.inputs, c.outputs, c.kernel, c.kernel, c.stride, c.padding, c.kind, precision}, weight.data(), bias.data());
  }

  Pixels run(GemmTile tile) const {
    Pixels out(c.destination, c.positions(), c.outputs, c.odd);
    std::fill(out.bytes.begin(), out.bytes.end(), kUntouched);
    const std::vector<uint16_t> packed = pack_conv_weights(layer, c.type);
    CHECK(!packed.empty());
    DeviceArray<uint8_t> device_source(source.bytes), device_residual(residual.bytes), device_out(out.bytes);
    DeviceArray<uint16_t> device_weights(packed);
    DeviceArray<float> device_bias(bias);
    DeviceArray<ConvTap> device_taps(layer.taps);
    DeviceArray<ConvPhase> device_phases(layer.phases);
    TensorConvCall call{};
    call.source = source.side(device_source);
    if (c.residual >= 0) call.residual = residual.side(device_residual);
    call.destination = out.side(device_out);
    call.weights = device_weights.data();
    call.bias = device_bias.data();
    call.taps = device_taps.data();
    call.phases = device_phases.data();
    call.phase_count = static_cast<int32_t>(layer.phases.size());
    call.channels = c.inputs;
    call.outputs = c.outputs;
    call.input_height = c.height;
    call.input_width = c.width;
    call.input_step = layer.input_step;
    call.output_step = layer.output_step;
    call.images = c.images;
    call.height = c.out(c.height);
    call.width = c.out(c.width);
    call.type = c.type;
    call.function = c.function;
    CHECK(tensor_conv(call, tile, 4, nullptr) == cudaSuccess);
    out.bytes = device_out.to_host();
    for (int64_t p = 0; p < out.positions; p++) {
      for (int64_t gap = p == 0 ? -out.before : out.channels - out.stride; gap < 0; gap++) {
        for (int64_t i = 0; i < out.size(); i++) CHECK_EQ(out.bytes[out.place(p, gap) + static_cast<size_t>(i)], kUntouched);
      }
    }
    return out;
  }

  // Sum and sum of sizes at an output place: straight from the definitions of torch.nn.Conv2d and ConvTranspose2d.
  void expected(int64_t image, int32_t oy, int32_t ox, int32_t o, double *sum, double *sizes) const {
    *sum = bias[static_cast<size_t>(o)];
    *sizes = std::fabs(*sum);
    for (int32_t ky = 0; ky < c.kernel; ky++) {
      for (int32_t kx = 0; kx < c.kernel; kx++) {
        int32_t y, x;
        if (c.kind == COMNECK_TRANSPOSED) {
          y = oy + c.padding - ky;
          x = ox + c.padding - kx;
          if (y % c.stride != 0 || x % c.stride != 0) continue;
          y /= c.stride;
          x /= c.stride;
        } else {
          y = oy * c.stride + ky - c.padding;
          x = ox * c.stride + kx - c.padding;
        }
        if (y < 0 || x < 0 || y >= c.height || x >= c.width) continue;
        for (int32_t i = 0; i < c.inputs; i++) {
          const int64_t at = c.kind == COMNECK_TRANSPOSED ? int64_t{i} * c.outputs + o : int64_t{o} * c.inputs + i;
          const double w = wide(c.type, narrow(c.type, weight[static_cast<size_t>((at * c.kernel + ky) * c.kernel + kx)]));
          const double product = double{wide(c.type, narrow(c.type, source.get((image * c.height + y) * c.width + x, i)))} * w;
          *sum += product;
          *sizes += std::fabs(product);
        }
      }
    }
  }
};

double function_of(int32_t function, double x) {
  switch (function) {
    case COMNECK_RELU: return x > 0 ? x : 0;
    case COMNECK_GELU: return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    default: return x;
  }
}

void check_case(const Case &c) {
  const Problem problem(c);
  const Pixels small = problem.run(GemmTile::kSmall);
  CHECK(problem.run(GemmTile::kLarge).bytes == small.bytes);
  CHECK(problem.run(GemmTile::kAuto).bytes == small.bytes);
  const double bit = std::ldexp(1.0, -23);
  const double unit = c.destination == COMNECK_F32 ? bit : c.destination == COMNECK_BF16 ? std::ldexp(1.0, -8) : std::ldexp(1.0, -11);
  const int32_t height = c.out(c.height), width = c.out(c.width);
  for (int64_t p = 0; p < c.positions(); p++) {
    for (int32_t o = 0; o < c.outputs; o++) {
      double sum, sizes;
      problem.expected(p / width / height, static_cast<int32_t>(p / width % height), static_cast<int32_t>(p % width), o, &sum, &sizes);
      if (c.residual >= 0) {
        sum += problem.residual.get(p, o);
        sizes += std::fabs(problem.residual.get(p, o));
      }
      const double expected = function_of(c.function, sum);
      const double found = small.get(p, o);
      const double tolerance = unit * std::fabs(expected) + 1.13 * sizes * (c.inputs * c.kernel * c.kernel / 4 + 8) * bit + 1e-6;
      if (!(std::fabs(found - expected) <= tolerance)) {
        std::fprintf(stderr, "%d to %d, %dx%d, stride %d, padding %d, kind %d, %d x %d: position %lld, output %d is %.9g instead of %.9g, allowed %.3g\n",
                     c.inputs, c.outputs, c.kernel, c.kernel, c.stride, c.padding, c.kind, c.height, c.width, static_cast<long long>(p), o, found,
                     expected, tolerance);
        std::exit(1);
      }
    }
  }
}

// A picture's bits are the same alone, in a batch and in any order of threads; what is not finite reaches those places alone whose window has it.
void check_pictures() {
  const Case c{3, 6, 7, 16, 24, 3, 1, 1, COMNECK_DIRECT, COMNECK_BF16, COMNECK_BF16, -1, COMNECK_F32, COMNECK_NONE};
  Problem all(c);
  const Pixels expected = all.run(GemmTile::kSmall);
  Case one_case = c;
  one_case.images = 1;
  for (int32_t image = 0; image < 3; image++) {
    Problem one(one_case);
    one.weight = all.weight;
    one.bias = all.bias;
    one.layer = all.layer;
    for (int64_t p = 0; p < 42; p++) {
      for (int64_t channel = 0; channel < 16; channel++) one.source.set(p, channel, all.source.get(image * 42 + p, channel));
    }
    const Pixels found = one.run(GemmTile::kAuto);
    for (int64_t p = 0; p < 42; p++) {
      for (int64_t o = 0; o < 24; o++) CHECK_EQ(found.get(p, o), expected.get(image * 42 + p, o));
    }
  }
#if defined(COMNECK_EMULATION)
  for (uint64_t seed = 2; seed < 6; seed++) {
    emulation::seed(seed);
    CHECK(all.run(GemmTile::kSmall).bytes == expected.bytes);
  }
#endif
  all.source.set(42 + 2 * 7 + 6, 15, NAN);  // image 1, row 2, last column
  const Pixels found = all.run(GemmTile::kSmall);
  for (int64_t p = 0; p < 126; p++) {
    const int64_t y = p / 7 % 6, x = p % 7;
    const bool reached = p / 42 == 1 && y >= 1 && y <= 3 && x >= 5;
    for (int64_t o = 0; o < 24; o++) CHECK(reached ? std::isnan(found.get(p, o)) : found.get(p, o) == expected.get(p, o));
  }
}

void check_refusals() {
  DeviceArray<uint16_t> memory(4096);
  DeviceArray<float> bias(16);
  const std::vector<float> weight(16 * 8 * 9);
  const auto packs = [&](int32_t inputs, int32_t outputs, int32_t kind) {
    return !pack_conv_weights(pack_layer({inputs, outputs, 3, 3, 1, 1, kind, COMNECK_PRECISION_BF16}, weight.data(), nullptr), COMNECK_BF16).empty();
  };
  CHECK(packs(8, 16, COMNECK_DIRECT));
  CHECK(!packs(7, 16, COMNECK_DIRECT));
  CHECK(!packs(8, 15, COMNECK_DIRECT));
  CHECK(!packs(8, 16, COMNECK_CHECKERBOARD));
  const ConvLayer layer = pack_layer({8, 16, 3, 3, 1, 1, COMNECK_DIRECT, COMNECK_PRECISION_BF16}, weight.data(), nullptr);
  DeviceArray<uint16_t> weights(pack_conv_weights(layer, COMNECK_BF16));
  DeviceArray<ConvTap> taps(layer.taps);
  DeviceArray<ConvPhase> phases(layer.phases);
  TensorConvCall call{};
  call.source = {memory.data(), 8, COMNECK_BF16};
  call.destination = {memory.data() + 1024, 16, COMNECK_BF16};
  call.weights = weights.data();
  call.bias = bias.data();
  call.taps = taps.data();
  call.phases = phases.data();
  call.phase_count = call.input_step = call.output_step = call.images = 1;
  call.channels = 8;
  call.outputs = 16;
  call.input_height = call.input_width = call.height = call.width = 4;
  call.type = COMNECK_BF16;
  const auto refused = [&](auto change) {
    TensorConvCall wrong = call;
    change(wrong);
    return tensor_conv(wrong, GemmTile::kAuto, 4, nullptr) == cudaErrorInvalidValue;
  };
  CHECK(tensor_conv(call, GemmTile::kAuto, 4, nullptr) == cudaSuccess);
  CHECK(refused([](TensorConvCall &c) { c.type = COMNECK_F16; }));
  CHECK(refused([](TensorConvCall &c) { c.channels = 12; }));
  CHECK(refused([&](TensorConvCall &c) { c.source.data = memory.data() + 4; }));
  CHECK(refused([](TensorConvCall &c) { c.source.stride = 12; }));
  CHECK(refused([&](TensorConvCall &c) { c.source = {memory.data() + 2, 8, COMNECK_F32}; }));
  CHECK(refused([&](TensorConvCall &c) { c.source = {memory.data(), 10, COMNECK_F32}; }));
  CHECK(refused([](TensorConvCall &c) { c.input_width = 0; }));
  CHECK(refused([](TensorConvCall &c) { c.output_step = 3; }));
  CHECK(refused([](TensorConvCall &c) { c.weights += 4; }));
  CHECK(refused([](TensorConvCall &c) { c.images = -1; }));
  call.images = 0;
  CHECK(tensor_conv(call, GemmTile::kAuto, 4, nullptr) == cudaSuccess);
}

}  // namespace

int main() {
  constexpr int32_t kF = COMNECK_F32, kB = COMNECK_BF16, kH = COMNECK_F16;
  constexpr int32_t kD = COMNECK_DIRECT, kT = COMNECK_TRANSPOSED;
  check_case({1, 1, 1, 8, 16, 3, 1, 1, kD, kB, kB, -1, kF, COMNECK_NONE});
  check_case({2, 5, 7, 24, 40, 3, 1, 1, kD, kB, kB, -1, kB, COMNECK_RELU});
  check_case({1, 11, 13, 64, 64, 5, 2, 2, kD, kB, kF, -1, kF, COMNECK_NONE});
  check_case({3, 8, 6, 32, 130, 3, 2, 1, kD, kH, kF, kF, kH, COMNECK_GELU, true});
  check_case({1, 17, 9, 72, 20, 3, 1, 1, kD, kH, kH, kH, kF, COMNECK_RELU});
  check_case({1, 9, 9, 16, 16, 1, 2, 0, kD, kB, kF, -1, kF, COMNECK_NONE});
  check_case({1, 6, 5, 40, 32, 5, 2, 2, kT, kB, kF, -1, kF, COMNECK_NONE});
  check_case({2, 4, 7, 64, 24, 4, 2, 1, kT, kB, kB, kF, kF, COMNECK_RELU, true});
  check_case({1, 13, 9, 16, 96, 3, 2, 1, kT, kH, kH, -1, kH, COMNECK_NONE});
  check_case({1, 5, 5, 16, 16, 3, 4, 0, kT, kB, kF, -1, kF, COMNECK_NONE});  // phases without a tap: the bias
  check_case({1, 12, 12, 192, 16, 3, 1, 0, kD, kB, kB, -1, kF, COMNECK_NONE});
  check_pictures();
  check_refusals();
  return 0;
}
