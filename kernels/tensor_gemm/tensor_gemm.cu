// multiply_block.h over rows that lie side by side, or are gathered: from f32, from rows that are not aligned, from patches.
#include "tensor_gemm/tensor_gemm.h"

#include "backend/bits.h"
#include "tensor_gemm/multiply_block.h"

namespace comneck::cuda {

std::vector<uint16_t> pack_gemm_weights(const float *weight, int64_t outputs, int64_t inputs, int32_t type) {
  const int64_t depth = gemm_depth(inputs);
  std::vector<uint16_t> packed(static_cast<size_t>(outputs * depth));
  for (int64_t o = 0; o < outputs; o++) {
    for (int64_t k = 0; k < inputs; k++) {
      const float w = weight[o * inputs + k];
      packed[static_cast<size_t>(o * depth + k)] = type == COMNECK_BF16 ? to_bf16(w) : to_f16(w);
    }
  }
  return packed;
}

namespace {

// Elements k .. k + 7 of a row, zeros from `count` on, by way of registers: for sources that are f32, not aligned, or patches.
template <class T>
__device__ inline uint4 gather_piece(const Side &source, const Patches &patches, int64_t row, int32_t k, int32_t count) {
  int64_t first = row * source.stride + k;
  if (patches.run > 0) {
    const int64_t line = row / patches.across;
    first = line / patches.down * patches.image_stride + line % patches.down * patches.down_stride + row % patches.across * patches.run;
  }
  const auto place = [&](int i) {
    return patches.run > 0 ? first + (k + i) / patches.run * patches.line_stride + (k + i) % patches.run : first + i;
  };
  uint32_t pairs[4];
  COMNECK_UNROLL
  for (int i = 0; i < 4; i++) {
    const bool low = i * 2 < count;
    const bool high = i * 2 + 1 < count;
    if (source.type == COMNECK_F32) {
      const float *from = static_cast<const float *>(source.data);
      pairs[i] = pack_pair<T>(low ? from[place(i * 2)] : 0.0f, high ? from[place(i * 2 + 1)] : 0.0f);
    } else {
      const uint16_t *from = static_cast<const uint16_t *>(source.data);
      pairs[i] = (low ? uint32_t{from[place(i * 2)]} : 0u) | (high ? uint32_t{from[place(i * 2 + 1)]} << 16 : 0u);
    }
  }
  return {pairs[0], pairs[1], pairs[2], pairs[3]};
}

// aligned: the source needs no gathering. neighbours: residual and destination can be reached by four elements at a time.
template <class T, class Tile>
__global__ void __launch_bounds__(Tile::kThreads) multiply_rows(GemmCall call, bool aligned, bool neighbours) {
  constexpr int kThreads = Tile::kThreads;
  constexpr int kRows = Tile::kRows;
  const int t = static_cast<int>(threadIdx.x);
  const int64_t first_row = int64_t{blockIdx.x} * kRows;
  const auto rows_left = static_cast<int32_t>(min(call.rows - first_row, int64_t{kRows}));
  const auto source = [&](uint16_t (*rows)[kChunk], int32_t chunk) {
    COMNECK_UNROLL
    for (int i = 0; i < kRows * kPieces / kThreads; i++) {
      const int e = t + i * kThreads;
      const int row = e / kPieces;
      const int32_t k = chunk * kChunk + e % kPieces * 8;
      const int32_t count = row < rows_left ? max(0, min(8, call.inputs - k)) : 0;
      uint16_t *to = piece_of(rows, row, e % kPieces);
      if (aligned) {
        const uint16_t *from = static_cast<const uint16_t *>(call.source.data);
        copy_16(to, count > 0 ? from + (first_row + row) * call.source.stride + k : from, static_cast<uint32_t>(count) * 2);
      } else {
        *reinterpret_cast<uint4 *>(to) = gather_piece<T>(call.source, call.patches, first_row + row, k, count);
      }
    }
  };
  multiply_block<T, Tile>(call, first_row, source, [](int64_t row) { return row; }, neighbours);
}

template <class T, class Tile>
cudaError_t launch_tile(const GemmCall &call, cudaStream_t stream) {
  const auto kernel = multiply_rows<T, Tile>;
  if (const cudaError_t error = allow_tiling<Tile>(kernel); error != cudaSuccess) return error;
  const bool aligned = call.patches.run == 0 && call.source.type == T::kType && is_aligned(call.source, 16, 8);
  const dim3 grid(static_cast<unsigned>((call.rows + Tile::kRows - 1) / Tile::kRows),
                  static_cast<unsigned>((call.outputs + Tile::kColumns - 1) / Tile::kColumns));
  return launch(kernel, grid, Tile::kThreads, Tile::kBytes, stream, call, aligned, has_neighbours(call));
}

template <class T>
cudaError_t launch_type(const GemmCall &call, bool large, cudaStream_t stream) {
  return large ? launch_tile<T, LargeTiling>(call, stream) : launch_tile<T, SmallTiling>(call, stream);
}

}  // namespace

cudaError_t tensor_gemm(const GemmCall &call, GemmTile tile, int32_t multiprocessors, cudaStream_t stream) {
  const auto known = [&](const Side &side) { return side.type == COMNECK_F32 || side.type == call.type; };
  constexpr int64_t kMostRows = int64_t{INT32_MAX} * 64;
  if ((call.type != COMNECK_BF16 && call.type != COMNECK_F16) || !known(call.source) || !known(call.destination) ||
      (call.residual.data != nullptr && !known(call.residual)) || call.rows < 0 || call.rows > kMostRows || call.inputs < 1 ||
      call.patches.run < 0 || (call.patches.run > 0 && (call.patches.down < 1 || call.patches.across < 1)) || call.inputs > kMostGemmInputs || call.outputs < 1 || call.outputs > (1 << 21) || reinterpret_cast<uintptr_t>(call.weights) % 16 != 0) {
    return cudaErrorInvalidValue;
  }
  if (call.rows == 0) return cudaSuccess;
  const int64_t large_blocks = (call.rows + 127) / 128 * ((call.outputs + 127) / 128);
  const bool fills = large_blocks >= multiprocessors;
  if (tile >= GemmTile::kWgmma && tensor_gemm_wgmma_takes(call)) {
    return tensor_gemm_wgmma(call, tile == GemmTile::kWgmma ? fills : tile == GemmTile::kWgmmaLarge, stream);
  }
  const bool large = tile == GemmTile::kLarge || tile == GemmTile::kWgmmaLarge || ((tile == GemmTile::kAuto || tile == GemmTile::kWgmma) && fills);
  return call.type == COMNECK_BF16 ? launch_type<Bf16>(call, large, stream) : launch_type<F16>(call, large, stream);
}

}  // namespace comneck::cuda
