// The kernels against f64 on the same rounded numbers, all tiles, at sizes around them: sources, residuals and destinations of every type,
// aligned and not, with NaNs in every gap of memory and nothing behind its end.
#include "tensor_gemm/tensor_gemm.h"

#include <cmath>
#include <random>
#include <utility>

#include "backend/bits.h"
#include "check.h"
#include "device_array.h"
#include "hopper.h"

using namespace comneck;
using namespace comneck::cuda;

namespace {

constexpr uint8_t kUntouched = 0xCD;

uint16_t narrow(int32_t type, float x) { return type == COMNECK_BF16 ? to_bf16(x) : to_f16(x); }
float wide(int32_t type, uint16_t x) { return type == COMNECK_BF16 ? from_bf16(x) : from_f16(x); }

// Where a matrix lies: on multiples of 16 bytes in all its rows, in its first row alone, in none.
enum Lies { kAligned, kFirstRowAligned, kShifted };

// Rows of `stride` elements, `before` of them in front of the first channel; what is not a channel is NaN. Ends with the last channel.
struct Matrix {
  int32_t type;
  int64_t rows, columns, before, stride;
  std::vector<uint8_t> bytes;

  Matrix(int32_t element, int64_t row_count, int64_t column_count, Lies lies)
      : type(element), rows(row_count), columns(column_count), before(lies == kShifted ? 1 : 8),
        stride((column_count + 7) / 8 * 8 + (lies == kAligned ? 16 : 9)) {
    bytes.assign(static_cast<size_t>((rows == 0 ? 0 : (rows - 1) * stride + before + columns) * size()), 0xFF);  // NaNs
  }
  int64_t size() const { return type == COMNECK_F32 ? 4 : 2; }
  size_t place(int64_t row, int64_t c) const { return static_cast<size_t>((row * stride + before + c) * size()); }
  void set(int64_t row, int64_t c, float x) {
    const uint16_t half = narrow(type, x);
    std::memcpy(&bytes[place(row, c)], type == COMNECK_F32 ? static_cast<const void *>(&x) : &half, static_cast<size_t>(size()));
  }
  float get(int64_t row, int64_t c) const {
    if (type == COMNECK_F32) {
      float x;
      std::memcpy(&x, &bytes[place(row, c)], 4);
      return x;
    }
    uint16_t half;
    std::memcpy(&half, &bytes[place(row, c)], 2);
    return wide(type, half);
  }
  Side side(DeviceArray<uint8_t> &device) const { return {device.data() + before * size(), stride, type}; }
};

struct Case {
  int64_t rows;
  int32_t inputs, outputs;
  int32_t type;      // of the product
  int32_t source;    // types of the others; residual -1: none
  int32_t residual;
  int32_t destination;
  Lies lies;
  Lies residual_lies;
  int32_t function;
};

double function_of(int32_t function, double x) {
  switch (function) {
    case COMNECK_RELU: return x > 0 ? x : 0;
    case COMNECK_QUICK_GELU: return x / (1 + std::exp(-1.702 * x));
    case COMNECK_GELU: return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    default: return x;
  }
}

Matrix multiply(const Case &c, const Matrix &source, const std::vector<uint16_t> &weights, const std::vector<float> &bias, const Matrix *residual,
                GemmTile tile) {
  Matrix out(c.destination, source.rows, c.outputs, c.lies);
  std::fill(out.bytes.begin(), out.bytes.end(), kUntouched);
  DeviceArray<uint8_t> device_source(source.bytes);
  DeviceArray<uint8_t> device_residual(residual == nullptr ? std::vector<uint8_t>() : residual->bytes);
  DeviceArray<uint8_t> device_out(out.bytes);
  DeviceArray<uint16_t> device_weights(weights);
  DeviceArray<float> device_bias(bias);
  GemmCall call{};
  call.source = source.side(device_source);
  call.weights = device_weights.data();
  call.bias = device_bias.data();
  if (residual != nullptr) call.residual = residual->side(device_residual);
  call.destination = out.side(device_out);
  call.rows = source.rows;
  call.inputs = c.inputs;
  call.outputs = c.outputs;
  call.type = c.type;
  call.function = c.function;
  CHECK(tensor_gemm(call, tile, 4, nullptr) == cudaSuccess);
  out.bytes = device_out.to_host();
  for (int64_t row = 0; row < out.rows; row++) {
    for (int64_t gap = row == 0 ? -out.before : out.columns - out.stride; gap < 0; gap++) {
      for (int64_t i = 0; i < out.size(); i++) CHECK_EQ(out.bytes[out.place(row, gap) + static_cast<size_t>(i)], kUntouched);
    }
  }
  return out;
}

void check_values(const Case &c, const Matrix &source, const std::vector<float> &weight, const std::vector<float> &bias, const Matrix *added,
                  const Matrix &out);

// The tiles of a kind of products: small and large.
std::vector<std::pair<GemmTile, GemmTile>> kinds_of_tiles() {
  std::vector<std::pair<GemmTile, GemmTile>> kinds = {{GemmTile::kSmall, GemmTile::kLarge}};
  if (has_wgmma()) kinds.emplace_back(GemmTile::kWgmmaSmall, GemmTile::kWgmmaLarge);
  return kinds;
}

void check_case(const Case &c) {
  std::mt19937 generator(static_cast<uint32_t>(c.rows * 31 + c.inputs * 7 + c.outputs));
  std::normal_distribution<float> normal;
  Matrix source(c.source, c.rows, c.inputs, c.lies);
  for (int64_t r = 0; r < c.rows; r++) {
    for (int32_t k = 0; k < c.inputs; k++) source.set(r, k, normal(generator));
  }
  std::vector<float> weight(static_cast<size_t>(c.outputs) * static_cast<size_t>(c.inputs));
  for (float &w : weight) w = normal(generator) / std::sqrt(static_cast<float>(c.inputs)) * 2.0f;
  std::vector<float> bias(static_cast<size_t>(c.outputs));
  for (float &b : bias) b = normal(generator);
  Matrix residual(c.residual < 0 ? COMNECK_F32 : c.residual, c.rows, c.outputs, c.residual_lies);
  for (int64_t r = 0; r < c.rows; r++) {
    for (int32_t o = 0; o < c.outputs; o++) residual.set(r, o, normal(generator));
  }
  const std::vector<uint16_t> packed = pack_gemm_weights(weight.data(), c.outputs, c.inputs, c.type);
  const Matrix *added = c.residual < 0 ? nullptr : &residual;
  for (const auto &[small_tile, large_tile] : kinds_of_tiles()) {
    const Matrix small = multiply(c, source, packed, bias, added, small_tile);
    const Matrix large = multiply(c, source, packed, bias, added, large_tile);
    CHECK(small.bytes == large.bytes);
    check_values(c, source, weight, bias, added, small);
  }
}

void check_values(const Case &c, const Matrix &source, const std::vector<float> &weight, const std::vector<float> &bias, const Matrix *added,
                  const Matrix &out) {
  // A sum loses less than 2^-23 of its terms' sizes at each addition of a few products; functions are good to some units in the last place
  // and stretch what they get by at most 1.13.
  const double bit = std::ldexp(1.0, -23);
  const double unit = c.destination == COMNECK_F32 ? bit : c.destination == COMNECK_BF16 ? std::ldexp(1.0, -8) : std::ldexp(1.0, -11);
  double worst = 0.0;
  for (int64_t r = 0; r < c.rows; r++) {
    for (int32_t o = 0; o < c.outputs; o++) {
      double sum = bias[static_cast<size_t>(o)];
      double sizes = std::fabs(sum);
      for (int32_t k = 0; k < c.inputs; k++) {
        const double product = double{wide(c.type, narrow(c.type, source.get(r, k)))} *
                               wide(c.type, narrow(c.type, weight[static_cast<size_t>(o) * static_cast<size_t>(c.inputs) + static_cast<size_t>(k)]));
        sum += product;
        sizes += std::fabs(product);
      }
      if (added != nullptr) {
        sum += added->get(r, o);
        sizes += std::fabs(added->get(r, o));
      }
      const double expected = function_of(c.function, sum);
      const double found = out.get(r, o);
      const double tolerance = unit * std::fabs(expected) + 1.13 * sizes * (c.inputs / 4 + 8) * bit + 1e-6;
      worst = std::max(worst, std::fabs(found - expected) / tolerance);
      if (!(std::fabs(found - expected) <= tolerance)) {
        std::fprintf(stderr, "%lld x %d to %d, types %d, %d, %d, %d, function %d: row %lld, output %d is %.9g instead of %.9g, allowed %.3g\n",
                     static_cast<long long>(c.rows), c.inputs, c.outputs, c.type, c.source, c.residual, c.destination, c.function,
                     static_cast<long long>(r), o, found, expected, tolerance);
        std::exit(1);
      }
    }
  }
  if (std::getenv("COMNECK_SHOW") != nullptr) {
    std::printf("%lld x %d to %d: %.3f of the tolerance\n", static_cast<long long>(c.rows), c.inputs, c.outputs, worst);
  }
}

// A row's bits are the same alone, in a batch, and in any order of threads; what is not finite stays in its row.
void check_rows(GemmTile automatic, GemmTile small_tile, GemmTile large_tile) {
  const Case c{130, 100, 72, COMNECK_BF16, COMNECK_BF16, -1, COMNECK_F32, kAligned, kAligned, COMNECK_QUICK_GELU};
  std::mt19937 generator(4);
  std::normal_distribution<float> normal;
  Matrix source(COMNECK_BF16, c.rows, c.inputs, kAligned);
  for (int64_t r = 0; r < c.rows; r++) {
    for (int32_t k = 0; k < c.inputs; k++) source.set(r, k, normal(generator));
  }
  std::vector<float> weight(static_cast<size_t>(c.outputs * c.inputs));
  for (float &w : weight) w = normal(generator);
  const std::vector<float> bias(static_cast<size_t>(c.outputs), 0.5f);
  const std::vector<uint16_t> packed = pack_gemm_weights(weight.data(), c.outputs, c.inputs, c.type);
  const Matrix all = multiply(c, source, packed, bias, nullptr, automatic);
  for (const int64_t row : {0, 63, 64, 129}) {
    Matrix one(COMNECK_BF16, 1, c.inputs, kAligned);
    for (int32_t k = 0; k < c.inputs; k++) one.set(0, k, source.get(row, k));
    const Matrix alone = multiply(c, one, packed, bias, nullptr, automatic);
    for (int32_t o = 0; o < c.outputs; o++) CHECK_EQ(alone.get(0, o), all.get(row, o));
  }
  for (const GemmTile tile : {small_tile, large_tile}) CHECK(multiply(c, source, packed, bias, nullptr, tile).bytes == all.bytes);
#if defined(COMNECK_EMULATION)
  for (uint64_t seed = 2; seed < 8; seed++) {
    emulation::seed(seed);
    for (const GemmTile tile : {small_tile, large_tile}) CHECK(multiply(c, source, packed, bias, nullptr, tile).bytes == all.bytes);
  }
#endif
  source.set(5, 99, NAN);
  source.set(70, 0, INFINITY);
  const Matrix found = multiply(c, source, packed, bias, nullptr, small_tile);
  for (int64_t r = 0; r < c.rows; r++) {
    for (int32_t o = 0; o < c.outputs; o++) {
      const float x = found.get(r, o);
      if (r == 5) {
        CHECK(std::isnan(x));
      } else if (r == 70) {
        CHECK(x == INFINITY || x == 0.0f);
      } else {
        CHECK_EQ(x, all.get(r, o));
      }
    }
  }
}

// Patches where they lie in pictures, against the same rows one after the other: the same bits.
void check_patches(int32_t type, int32_t stored) {
  constexpr int32_t kImages = 3, kHeight = 33, kWidth = 47, kColors = 3, kSide = 14, kDown = 2, kAcross = 3;  // a remainder on both sides
  const Case c{kImages * kDown * kAcross, kSide * kSide * kColors, 40, type, stored, -1, COMNECK_F32, kShifted, kAligned, COMNECK_NONE};
  std::mt19937 generator(6);
  std::normal_distribution<float> normal;
  Matrix pictures(stored, kImages * kHeight * kWidth, kColors, kShifted);
  pictures.before = 0;
  pictures.stride = kColors;
  pictures.bytes.assign(static_cast<size_t>(pictures.rows * kColors * pictures.size()), 0);
  for (int64_t p = 0; p < pictures.rows; p++) {
    for (int32_t color = 0; color < kColors; color++) pictures.set(p, color, normal(generator));
  }
  Matrix gathered(stored, c.rows, c.inputs, kShifted);
  for (int64_t r = 0; r < c.rows; r++) {
    const int64_t line = r / kAcross;
    for (int32_t k = 0; k < c.inputs; k++) {
      const int64_t y = line % kDown * kSide + k / (kSide * kColors);
      const int64_t x = r % kAcross * kSide + k / kColors % kSide;
      gathered.set(r, k, pictures.get((line / kDown * kHeight + y) * kWidth + x, k % kColors));
    }
  }
  std::vector<float> weight(static_cast<size_t>(c.outputs * c.inputs));
  for (float &w : weight) w = normal(generator);
  const std::vector<float> bias(static_cast<size_t>(c.outputs), 0.25f);
  const std::vector<uint16_t> packed = pack_gemm_weights(weight.data(), c.outputs, c.inputs, type);
  const Matrix expected = multiply(c, gathered, packed, bias, nullptr, GemmTile::kAuto);
  Matrix out(COMNECK_F32, c.rows, c.outputs, c.lies);
  std::fill(out.bytes.begin(), out.bytes.end(), kUntouched);
  DeviceArray<uint8_t> device_pictures(pictures.bytes), device_out(out.bytes);
  DeviceArray<uint16_t> device_weights(packed);
  DeviceArray<float> device_bias(bias);
  GemmCall call{};
  call.source = pictures.side(device_pictures);
  call.weights = device_weights.data();
  call.bias = device_bias.data();
  call.destination = out.side(device_out);
  call.rows = c.rows;
  call.inputs = c.inputs;
  call.outputs = c.outputs;
  call.type = type;
  constexpr int64_t kLine = kWidth * kColors;
  call.patches = {kSide * kColors, kDown, kAcross, kLine, kSide * kLine, kHeight * kLine};
  for (const GemmTile tile : {GemmTile::kSmall, GemmTile::kLarge, GemmTile::kWgmma}) {  // the last of which does not take them
    CHECK(tensor_gemm(call, tile, 4, nullptr) == cudaSuccess);
    CHECK(device_out.to_host() == expected.bytes);
  }
  call.patches.across = 0;
  CHECK(tensor_gemm(call, GemmTile::kAuto, 4, nullptr) == cudaErrorInvalidValue);
}

void check_refusals() {
  DeviceArray<uint16_t> memory(4096);
  DeviceArray<float> bias(8);
  GemmCall call{};
  call.source = {memory.data(), 8, COMNECK_BF16};
  call.weights = memory.data() + 1024;
  call.bias = bias.data();
  call.destination = {memory.data() + 2048, 8, COMNECK_BF16};
  call.rows = 1;
  call.inputs = call.outputs = 8;
  call.type = COMNECK_BF16;
  const auto run = [](const GemmCall &c) { return tensor_gemm(c, GemmTile::kAuto, 4, nullptr); };
  CHECK(run(call) == cudaSuccess);
  GemmCall wrong = call;
  wrong.type = COMNECK_F16;
  CHECK(run(wrong) == cudaErrorInvalidValue);
  wrong = call;
  wrong.weights += 4;
  CHECK(run(wrong) == cudaErrorInvalidValue);
  wrong = call;
  wrong.rows = -1;
  CHECK(run(wrong) == cudaErrorInvalidValue);
  wrong = call;
  wrong.inputs = 0;
  CHECK(run(wrong) == cudaErrorInvalidValue);
  if (has_wgmma()) {
    CHECK(tensor_gemm_wgmma_takes(call));
    wrong = call;
    wrong.patches = {8, 1, 1, 8, 8, 8};
    CHECK(!tensor_gemm_wgmma_takes(wrong));
    wrong = call;
    wrong.source.data = memory.data() + 1;
    CHECK(!tensor_gemm_wgmma_takes(wrong));
    wrong = call;
    wrong.source.type = COMNECK_F32;
    CHECK(!tensor_gemm_wgmma_takes(wrong));
  }
  wrong = call;
  wrong.rows = 0;
  CHECK(run(wrong) == cudaSuccess);
}

}  // namespace

int main() {
  constexpr int32_t kF = COMNECK_F32, kB = COMNECK_BF16, kH = COMNECK_F16;
  check_case({1, 1, 1, kB, kB, -1, kF, kAligned, kAligned, COMNECK_NONE});
  check_case({1, 8, 8, kB, kB, -1, kB, kAligned, kAligned, COMNECK_NONE});
  check_case({31, 64, 33, kB, kB, kF, kF, kAligned, kAligned, COMNECK_RELU});
  check_case({32, 72, 64, kH, kH, kH, kH, kAligned, kAligned, COMNECK_QUICK_GELU});
  check_case({33, 100, 20, kB, kB, kB, kF, kAligned, kShifted, COMNECK_GELU});
  check_case({63, 127, 63, kB, kB, kF, kB, kShifted, kAligned, COMNECK_QUICK_GELU});
  check_case({64, 128, 128, kB, kF, -1, kF, kAligned, kAligned, COMNECK_NONE});
  check_case({65, 129, 130, kB, kF, kB, kB, kShifted, kShifted, COMNECK_GELU});
  check_case({129, 200, 67, kH, kF, kF, kH, kAligned, kAligned, COMNECK_GELU});
  check_case({128, 320, 96, kH, kH, -1, kF, kFirstRowAligned, kAligned, COMNECK_NONE});
  check_case({40, 64, 64, kB, kB, kF, kF, kAligned, kFirstRowAligned, COMNECK_NONE});
  check_case({257, 192, 192, kB, kB, kF, kF, kAligned, kAligned, COMNECK_NONE});
  check_case({257, 64, 256, kB, kB, -1, kB, kAligned, kAligned, COMNECK_QUICK_GELU});
  check_case({5, 1100, 40, kB, kB, kF, kF, kAligned, kAligned, COMNECK_NONE});
  check_case({150, 700, 140, kH, kH, kF, kH, kAligned, kAligned, COMNECK_QUICK_GELU});
  check_rows(GemmTile::kAuto, GemmTile::kSmall, GemmTile::kLarge);
  if (has_wgmma()) {
    check_rows(GemmTile::kWgmma, GemmTile::kWgmmaSmall, GemmTile::kWgmmaLarge);
  } else {
    std::printf("no sm_90a here: the kernel with wgmma was not run\n");
  }
  check_patches(kB, kF);
  check_patches(kH, kH);
  check_refusals();
  return 0;
}
