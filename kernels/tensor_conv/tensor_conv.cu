// multiply_block.h over output positions: a thread fetches the same piece of eight channels for a few positions, whose places in the input it
// keeps; a chunk says which tap and channels that is. Positions of one phase of a transposed layer are a matrix of their own (blockIdx.z).
#include "tensor_conv/tensor_conv.h"

#include "backend/bits.h"
#include "tensor_gemm/multiply_block.h"

namespace comneck::cuda {

std::vector<uint16_t> pack_conv_weights(const ConvLayer &layer, int32_t type) {
  const comneck_convolution &g = layer.geometry;
  const int64_t most = int64_t{g.kernel_height} * g.kernel_width * g.input_channels;
  if (g.kind == COMNECK_CHECKERBOARD || g.input_channels % 8 != 0 || g.output_channels < 16 || most > kMostGemmInputs) return {};
  std::vector<uint16_t> packed;
  for (const ConvPhase &phase : layer.phases) {
    for (int64_t o = 0; o < g.output_channels; o++) {
      for (int64_t tap = phase.first_tap; tap < phase.first_tap + phase.taps; tap++) {
        for (int64_t c = 0; c < g.input_channels; c++) {
          const float w = layer.weights[static_cast<size_t>((tap * g.input_channels + c) * layer.columns + o)];
          packed.push_back(type == COMNECK_BF16 ? to_bf16(w) : to_f16(w));
        }
      }
    }
  }
  return packed;
}

namespace {

// Eight channels of f32, rounded.
template <class T>
__device__ inline uint4 round_piece(const float *from) {
  const float4 low = *reinterpret_cast<const float4 *>(from);
  const float4 high = *reinterpret_cast<const float4 *>(from + 4);
  return {pack_pair<T>(low.x, low.y), pack_pair<T>(low.z, low.w), pack_pair<T>(high.x, high.y), pack_pair<T>(high.z, high.w)};
}

template <class T, class Tile>
__global__ void __launch_bounds__(Tile::kThreads) convolve(TensorConvCall call, bool neighbours) {
  constexpr int kEach = Tile::kRows * kPieces / Tile::kThreads;  // positions of a thread
  constexpr int kApart = Tile::kThreads / kPieces;
  const int t = static_cast<int>(threadIdx.x);
  const ConvPhase phase = call.phases[blockIdx.z];
  const int32_t down = call.height / call.output_step;
  const int32_t across = call.width / call.output_step;
  const int64_t first_row = int64_t{blockIdx.x} * Tile::kRows;

  GemmCall product{};
  product.weights = call.weights + int64_t{phase.first_tap} * call.channels * call.outputs;
  product.bias = call.bias;
  product.residual = call.residual;
  product.destination = call.destination;
  product.rows = int64_t{call.images} * down * across;
  product.inputs = phase.taps * call.channels;
  product.outputs = call.outputs;
  product.function = call.function;

  int64_t image[kEach];  // its first position in the input
  int32_t y[kEach], x[kEach];
  COMNECK_UNROLL
  for (int i = 0; i < kEach; i++) {
    const int64_t row = first_row + t / kPieces + i * kApart;
    const bool exists = row < product.rows;
    const int64_t line = row / across;
    image[i] = line / down * call.input_height * call.input_width;
    y[i] = exists ? static_cast<int32_t>(line % down) * call.input_step : INT32_MIN / 2;  // far outside
    x[i] = static_cast<int32_t>(row % across) * call.input_step;
  }
  const bool is_f32 = call.source.type == COMNECK_F32;
  const auto source = [&](uint16_t (*rows)[kChunk], int32_t chunk) {
    const int32_t k = chunk * kChunk + t % kPieces * 8;
    const bool exists = k < product.inputs;
    const int32_t c = exists ? k % call.channels : 0;
    const ConvTap tap = exists ? call.taps[phase.first_tap + k / call.channels] : ConvTap{0, 0};
    COMNECK_UNROLL
    for (int i = 0; i < kEach; i++) {
      const int32_t at_y = y[i] + tap.dy;
      const int32_t at_x = x[i] + tap.dx;
      const bool inside = exists && at_y >= 0 && at_y < call.input_height && at_x >= 0 && at_x < call.input_width;
      const int64_t at = inside ? (image[i] + int64_t{at_y} * call.input_width + at_x) * call.source.stride + c : 0;
      uint16_t *to = piece_of(rows, t / kPieces + i * kApart, t % kPieces);
      if (is_f32) {
        *reinterpret_cast<uint4 *>(to) = inside ? round_piece<T>(static_cast<const float *>(call.source.data) + at) : uint4{0, 0, 0, 0};
      } else {
        copy_16(to, static_cast<const uint16_t *>(call.source.data) + at, inside ? 16 : 0);
      }
    }
  };
  const auto place = [&](int64_t row) {
    const int64_t line = row / across;
    const int64_t out_y = line % down * call.output_step + phase.y;
    return (line / down * call.height + out_y) * call.width + row % across * call.output_step + phase.x;
  };
  multiply_block<T, Tile>(product, first_row, source, place, neighbours);
}

template <class T, class Tile>
cudaError_t launch_tile(const TensorConvCall &call, int64_t rows, cudaStream_t stream) {
  const auto kernel = convolve<T, Tile>;
  if (const cudaError_t error = allow_tiling<Tile>(kernel); error != cudaSuccess) return error;
  GemmCall ends{};
  ends.residual = call.residual;
  ends.destination = call.destination;
  const dim3 grid(static_cast<unsigned>((rows + Tile::kRows - 1) / Tile::kRows),
                  static_cast<unsigned>((call.outputs + Tile::kColumns - 1) / Tile::kColumns), static_cast<unsigned>(call.phase_count));
  return launch(kernel, grid, Tile::kThreads, Tile::kBytes, stream, call, has_neighbours(ends));
}

template <class T>
cudaError_t launch_type(const TensorConvCall &call, int64_t rows, bool large, cudaStream_t stream) {
  return large ? launch_tile<T, LargeTiling>(call, rows, stream) : launch_tile<T, SmallTiling>(call, rows, stream);
}

}  // namespace

bool tensor_conv_takes(const Side &source, int32_t type) {
  return source.type == COMNECK_F32 ? is_aligned(source, 16, 4) : source.type == type && is_aligned(source, 16, 8);
}

cudaError_t tensor_conv(const TensorConvCall &call, GemmTile tile, int32_t multiprocessors, cudaStream_t stream) {
  const auto known = [&](const Side &side) { return side.type == COMNECK_F32 || side.type == call.type; };
  constexpr int64_t kMostRows = int64_t{INT32_MAX} * 64;
  if ((call.type != COMNECK_BF16 && call.type != COMNECK_F16) || !tensor_conv_takes(call.source, call.type) || !known(call.destination) ||
      (call.residual.data != nullptr && !known(call.residual)) || call.channels < 8 || call.channels % 8 != 0 || call.outputs < 1 ||
      call.outputs > 65535 * 64 || call.phase_count < 1 || call.phase_count > 65535 || call.input_height < 1 || call.input_width < 1 ||
      call.input_step < 1 || call.output_step < 1 || call.images < 0 || call.height < 1 || call.width < 1 || call.height % call.output_step != 0 ||
      call.width % call.output_step != 0 || reinterpret_cast<uintptr_t>(call.weights) % 16 != 0) {
    return cudaErrorInvalidValue;
  }
  const int64_t rows = int64_t{call.images} * (call.height / call.output_step) * (call.width / call.output_step);
  if (rows > kMostRows) return cudaErrorInvalidValue;
  if (rows == 0) return cudaSuccess;
  const int64_t large_blocks = (rows + 127) / 128 * ((call.outputs + 127) / 128) * call.phase_count;
  const bool large = tile == GemmTile::kLarge || (tile != GemmTile::kSmall && large_blocks >= multiprocessors);
  return call.type == COMNECK_BF16 ? launch_type<Bf16>(call, rows, large, stream) : launch_type<F16>(call, rows, large, stream);
}

}  // namespace comneck::cuda
