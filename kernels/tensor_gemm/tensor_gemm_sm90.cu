// The same with wgmma and TMA. A block computes 64 x 64 or 128 x 128 outputs, a group of four warps 64 rows of them; one warp more asks TMA for
// chunks of 64 inputs of the block's rows and weights, into kStages buffers. Two mbarriers a buffer: `came`, when its bytes are there, and `done`,
// when every group's products have read it. Products of one chunk run while the next one's are started.
//
// What lies beyond the last row, output or input is zeros, which TMA puts there. A group of 64 rows without a row takes no part.
#include "hopper.h"
#include "tensor_gemm/gemm_rows.h"

namespace comneck::cuda {
namespace {

[[maybe_unused]] constexpr int kChunk = kBoxChannels;
constexpr int kGroupRows = 64;
constexpr int kGroupThreads = 128;

// What a block's shared memory holds: the buffers, then the sums.
template <int kGroups, int kColumns, int kStages>
struct Memory {
  struct Stage {
    EightRows source[kGroups * kGroupRows / 8];
    EightRows weights[kColumns / 8];
  };
  static constexpr int kPitch = kColumns + 8;
  union {
    Stage stages[kStages];
    float sums[kGroups * kGroupRows][kPitch];
  };
  Barrier came[kStages];
  Barrier done[kStages];
};

template <class T, int kGroups, int kColumns, int kStages>
__global__ void __launch_bounds__(kGroups *kGroupThreads + 32, kGroups == 1 ? 3 : 2)
    multiply_rows_wgmma(const __grid_constant__ TensorMap source, const __grid_constant__ TensorMap weights, GemmCall call, bool neighbours) {
#if defined(COMNECK_SM90A_BODY)
  using Block = Memory<kGroups, kColumns, kStages>;
  constexpr int kRows = kGroups * kGroupRows;
  constexpr int kThreads = kGroups * kGroupThreads + 32;
  COMNECK_DYNAMIC_SHARED(Block, memory);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int group = static_cast<int>(threadIdx.x) / kGroupThreads;  // kGroups: the warp that loads
  const int64_t first_row = int64_t{blockIdx.x} * kRows;
  const int32_t first_column = static_cast<int32_t>(blockIdx.y) * kColumns;
  const auto rows_left = static_cast<int32_t>(min(call.rows - first_row, int64_t{kRows}));
  const int32_t chunks = (call.inputs + kChunk - 1) / kChunk;
  const bool works = group < kGroups && group * kGroupRows < rows_left;

  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; i++) {
      init_barrier(&memory->came[i], 1);
      init_barrier(&memory->done[i], static_cast<uint32_t>((rows_left + kGroupRows - 1) / kGroupRows * 4));  // each warp
    }
    publish_barriers();
  }
  __syncthreads();

  // Of chunk c in its buffer: each phase is one chunk.
  const auto parity = [](int32_t c) { return static_cast<uint32_t>(c / kStages % 2); };
  float sum[kColumns / 8][4];
  COMNECK_UNROLL
  for (int j = 0; j < kColumns / 8; j++) {
    COMNECK_UNROLL
    for (int i = 0; i < 4; i++) sum[j][i] = 0.0f;
  }
  if (group == kGroups) {
    for (int32_t c = 0; c < chunks && lane == 0; c++) {
      typename Block::Stage &stage = memory->stages[c % kStages];
      Barrier *came = &memory->came[c % kStages];
      if (c >= kStages) wait_barrier(&memory->done[c % kStages], parity(c - kStages));
      expect_bytes(came, sizeof(typename Block::Stage));
      load_box(source, stage.source, came, c * kChunk, static_cast<int32_t>(first_row), 0);
      load_box(weights, stage.weights, came, c * kChunk, first_column, 0);
    }
    __syncwarp();
  } else if (works) {
    COMNECK_UNROLL_BY(1)
    for (int32_t c = 0; c < chunks; c++) {
      typename Block::Stage &stage = memory->stages[c % kStages];
      wait_barrier(&memory->came[c % kStages], parity(c));
      pin(sum);
      order_products();
      COMNECK_UNROLL
      for (int k = 0; k < kChunk / 16; k++) {
        multiply_add_tiles<T, kColumns>(sum, &stage.source[group * kGroupRows / 8].element[0][k * 16], &stage.weights[0].element[0][k * 16], true);
      }
      commit_products();
      wait_products<1>();  // those of the chunk before
      if (c > 0 && lane == 0) arrive(&memory->done[(c - 1) % kStages]);
    }
    wait_products<0>();
    pin(sum);
  }
  __syncthreads();  // nobody reads the buffers any more
  if (works) {
    const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
    COMNECK_UNROLL
    for (int half = 0; half < 2; half++) {
      float *row = &memory->sums[warp_row + half * 8 + lane / 4][lane % 4 * 2];
      COMNECK_UNROLL
      for (int j = 0; j < kColumns / 8; j++) *reinterpret_cast<float2 *>(row + j * 8) = {sum[j][half * 2], sum[j][half * 2 + 1]};
    }
  }
  __syncthreads();
  finish_rows<T, kColumns, Block::kPitch, kThreads>(call, memory->sums[0], first_row, rows_left, first_column, [](int64_t row) { return row; }, neighbours);
#else
  __trap();  // has_wgmma says that nobody comes here
#endif
}

template <class T, int kGroups, int kColumns, int kStages>
cudaError_t launch_tile(const GemmCall &call, cudaStream_t stream) {
  using Block = Memory<kGroups, kColumns, kStages>;
  constexpr int kRows = kGroups * kGroupRows;
  const int64_t depth = gemm_depth(call.inputs);
  TensorMap source, weights;
  for (const cudaError_t error : {map_tokens(&source, call.source.data, T::kType, 1, call.rows, call.inputs, call.source.stride, kRows),
                                  map_tokens(&weights, call.weights, T::kType, 1, call.outputs, depth, depth, kColumns),
                                  allow_shared(multiply_rows_wgmma<T, kGroups, kColumns, kStages>, sizeof(Block))}) {
    if (error != cudaSuccess) return error;
  }
  const dim3 grid(static_cast<unsigned>((call.rows + kRows - 1) / kRows), static_cast<unsigned>((call.outputs + kColumns - 1) / kColumns));
  return launch(multiply_rows_wgmma<T, kGroups, kColumns, kStages>, grid, kGroups * kGroupThreads + 32, sizeof(Block), stream, source, weights, call,
                has_neighbours(call));
}

template <class T>
cudaError_t launch_type(const GemmCall &call, bool large, cudaStream_t stream) {
  return large ? launch_tile<T, 2, 128, 3>(call, stream) : launch_tile<T, 1, 64, 4>(call, stream);
}

}  // namespace

bool tensor_gemm_wgmma_takes(const GemmCall &call) {
  constexpr int64_t kMostRows = INT32_MAX - 128;  // of which TMA is told the number
  return call.patches.run == 0 && call.source.type == call.type && is_aligned(call.source, 16, 8) && call.source.stride > 0 && call.rows <= kMostRows &&
         call.rows * call.source.stride < int64_t{1} << 39 && has_wgmma();
}

cudaError_t tensor_gemm_wgmma(const GemmCall &call, bool large, cudaStream_t stream) {
  return call.type == COMNECK_BF16 ? launch_type<Bf16>(call, large, stream) : launch_type<F16>(call, large, stream);
}

}  // namespace comneck::cuda
