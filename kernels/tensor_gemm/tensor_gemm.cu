// A block computes kRows x kColumns outputs, each of its warps a rectangle of them in registers. k goes by in chunks of 64 through three
// stages of shared memory: while one chunk is multiplied, the next two are on their way (cp.async).
//
// Rows of shared memory are 64 elements, eight pieces of 16 bytes; piece p of row r lies at place p ^ (r % 8), as in fused_attention. What
// lies beyond the last row, output or input is zero there. Groups of 16 rows without a row are not multiplied: with 257 rows the last block
// has one group.
//
// At the end the sums go through shared memory, so that bias, residual and function work on four neighbours at a time and memory gets whole
// sectors: 16 bytes of f32, 8 of bf16.
#include "tensor_gemm/tensor_gemm.h"

#include "backend/bits.h"
#include "tensor_gemm/gemm_rows.h"

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

constexpr int kChunk = 64;
constexpr int kPieces = kChunk / 8;
constexpr int kStages = 3;

__device__ inline uint16_t *piece_of(uint16_t (*rows)[kChunk], int row, int piece) { return &rows[row][(piece ^ (row % 8)) * 8]; }

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

// What a block's shared memory holds: the stages, then the sums.
template <int kRows, int kColumns>
struct Shared {
  struct Stage {
    uint16_t source[kRows][kChunk];
    uint16_t weights[kColumns][kChunk];
  };
  static constexpr int kPitch = kColumns + 8;  // rows of sums: the pairs of half a warp fall into different banks
  static constexpr size_t kBytes = sizeof(Stage) * kStages;
  static_assert(sizeof(float) * kRows * kPitch <= kBytes);
};

// aligned: the source needs no gathering. neighbours: residual and destination can be reached by four elements at a time.
template <class T, int kRows, int kColumns, int kWarpsDown, int kWarpsAcross>
__global__ void __launch_bounds__(kWarpsDown *kWarpsAcross * 32) multiply_rows(GemmCall call, bool aligned, bool neighbours) {
  using Memory = Shared<kRows, kColumns>;
  constexpr int kThreads = kWarpsDown * kWarpsAcross * 32;
  constexpr int kTall = kRows / kWarpsDown / 16;       // matrices of 16 rows a warp
  constexpr int kWide = kColumns / kWarpsAcross / 16;  // matrices of 16 columns
  static_assert(kRows * kPieces % kThreads == 0 && kColumns * kPieces % kThreads == 0);
  COMNECK_DYNAMIC_SHARED(typename Memory::Stage, stages);
  const int t = static_cast<int>(threadIdx.x);
  const int lane = t % 32;
  const int warp_row = t / 32 / kWarpsAcross * kTall * 16;
  const int warp_column = t / 32 % kWarpsAcross * kWide * 16;
  const int64_t first_row = int64_t{blockIdx.x} * kRows;
  const int32_t first_column = static_cast<int32_t>(blockIdx.y) * kColumns;
  const int32_t rows_left = static_cast<int32_t>(min(call.rows - first_row, int64_t{kRows}));
  const int32_t columns_left = min(call.outputs - first_column, int32_t{kColumns});
  const int64_t depth = gemm_depth(call.inputs);
  const int32_t chunks = (call.inputs + kChunk - 1) / kChunk;

  const auto fetch = [&](int32_t chunk) {
    typename Memory::Stage &stage = stages[chunk % kStages];
    COMNECK_UNROLL
    for (int i = 0; i < kRows * kPieces / kThreads; i++) {
      const int e = t + i * kThreads;
      const int row = e / kPieces;
      const int32_t k = chunk * kChunk + e % kPieces * 8;
      const int32_t count = row < rows_left ? max(0, min(8, call.inputs - k)) : 0;
      uint16_t *to = piece_of(stage.source, row, e % kPieces);
      if (aligned) {
        const uint16_t *from = static_cast<const uint16_t *>(call.source.data);
        copy_16(to, count > 0 ? from + (first_row + row) * call.source.stride + k : from, static_cast<uint32_t>(count) * 2);
      } else {
        *reinterpret_cast<uint4 *>(to) = gather_piece<T>(call.source, call.patches, first_row + row, k, count);
      }
    }
    COMNECK_UNROLL
    for (int i = 0; i < kColumns * kPieces / kThreads; i++) {
      const int e = t + i * kThreads;
      const int column = e / kPieces;
      const int32_t k = chunk * kChunk + e % kPieces * 8;
      const bool exists = column < columns_left && k < depth;
      copy_16(piece_of(stage.weights, column, e % kPieces), exists ? call.weights + (first_column + column) * depth + k : call.weights,
              exists ? 16 : 0);
    }
  };

  float sum[kTall][kWide * 2][4];
  COMNECK_UNROLL
  for (int i = 0; i < kTall; i++) {
    COMNECK_UNROLL
    for (int j = 0; j < kWide * 2; j++) {
      COMNECK_UNROLL
      for (int v = 0; v < 4; v++) sum[i][j][v] = 0.0f;
    }
  }
  COMNECK_UNROLL
  for (int32_t chunk = 0; chunk < kStages - 1; chunk++) {
    if (chunk < chunks) fetch(chunk);
    commit_copies();
  }
  for (int32_t chunk = 0; chunk < chunks; chunk++) {
    wait_copies<kStages - 2>();  // a group for each chunk, empty ones included
    __syncthreads();             // this chunk is there, and the one before it is done with
    if (chunk + kStages - 1 < chunks) fetch(chunk + kStages - 1);
    commit_copies();
    typename Memory::Stage &stage = stages[chunk % kStages];
    COMNECK_UNROLL
    for (int k = 0; k < kChunk / 16; k++) {
      uint32_t weight[kWide][4];
      COMNECK_UNROLL
      for (int j = 0; j < kWide; j++) {
        load_matrices(weight[j], piece_of(stage.weights, warp_column + j * 16 + lane / 16 * 8 + lane % 8, k * 2 + lane / 8 % 2));
      }
      COMNECK_UNROLL
      for (int i = 0; i < kTall; i++) {
        if (warp_row + i * 16 >= rows_left) continue;
        uint32_t x[4];
        load_matrices(x, piece_of(stage.source, warp_row + i * 16 + lane % 16, k * 2 + lane / 16));
        COMNECK_UNROLL
        for (int j = 0; j < kWide; j++) {
          multiply_add<T>(sum[i][2 * j], x, weight[j][0], weight[j][1]);
          multiply_add<T>(sum[i][2 * j + 1], x, weight[j][2], weight[j][3]);
        }
      }
    }
  }

  wait_copies<0>();
  __syncthreads();  // nobody reads the stages any more
  COMNECK_DYNAMIC_SHARED(float, sums);
  COMNECK_UNROLL
  for (int i = 0; i < kTall; i++) {
    COMNECK_UNROLL
    for (int half = 0; half < 2; half++) {
      float *row = sums + (warp_row + i * 16 + half * 8 + lane / 4) * Memory::kPitch + warp_column + lane % 4 * 2;
      COMNECK_UNROLL
      for (int j = 0; j < kWide * 2; j++) *reinterpret_cast<float2 *>(row + j * 8) = {sum[i][j][half * 2], sum[i][j][half * 2 + 1]};
    }
  }
  __syncthreads();
  finish_rows<T, kColumns, Memory::kPitch, kThreads>(call, sums, first_row, rows_left, first_column, neighbours);
}

template <class T, int kRows, int kColumns, int kWarpsDown, int kWarpsAcross>
cudaError_t launch_tile(const GemmCall &call, cudaStream_t stream) {
  const auto kernel = multiply_rows<T, kRows, kColumns, kWarpsDown, kWarpsAcross>;
  constexpr size_t kBytes = Shared<kRows, kColumns>::kBytes;
  if constexpr (kBytes > 48 * 1024) {
    if (const cudaError_t error = allow_shared(kernel, kBytes); error != cudaSuccess) return error;
  }
  const bool aligned = call.patches.run == 0 && call.source.type == T::kType && is_aligned(call.source, 16, 8);
  const dim3 grid(static_cast<unsigned>((call.rows + kRows - 1) / kRows), static_cast<unsigned>((call.outputs + kColumns - 1) / kColumns));
  return launch(kernel, grid, kWarpsDown * kWarpsAcross * 32, kBytes, stream, call, aligned, has_neighbours(call));
}

template <class T>
cudaError_t launch_type(const GemmCall &call, bool large, cudaStream_t stream) {
  return large ? launch_tile<T, 128, 128, 2, 4>(call, stream) : launch_tile<T, 64, 64, 2, 2>(call, stream);
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
