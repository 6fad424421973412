// Templates of the tile kernels, to be included by one file for each instruction set. Everything here has internal
// linkage: the same template compiled with other instructions must never be merged with it by the linker.
//
// Isa:        Vector (f32 lanes), kLanes, load(const float *), store(float *, Vector), add(a, b), relu(x)
// Arithmetic: broadcast(const char *unit) -> Vector, operand(const char *) -> Vector of units, madd(a, b, c) -> Vector
#ifndef COMNECK_BACKEND_GEMM_TILE_H
#define COMNECK_BACKEND_GEMM_TILE_H

#include <cstdint>
#include <utility>

#include "backend/gemm.h"
#include "comneck.h"

// Accumulators live in registers only where these loops are unrolled. Instrumented builds want small code instead.
#if defined(__SANITIZE_ADDRESS__)
#define COMNECK_UNROLL(n) _Pragma("GCC unroll 1")
#else
#define COMNECK_UNROLL(n) COMNECK_PRAGMA(GCC unroll n)
#define COMNECK_PRAGMA(text) _Pragma(#text)
#endif

namespace comneck {
namespace {

template <class Isa, class Arithmetic, int Rows, int Vectors>
void tile(const TileCall &call) {
  using Vector = typename Isa::Vector;
  constexpr int kWidth = Vectors * Isa::kLanes;
  constexpr uint32_t kAll = (1u << Rows) - 1;
  Vector acc[Rows][Vectors] = {};
  if (call.bias != nullptr) {
    COMNECK_UNROLL(4)
    for (int v = 0; v < Vectors; ++v) {
      const Vector bias = Isa::load(call.bias + v * Isa::kLanes);
      COMNECK_UNROLL(12)
      for (int r = 0; r < Rows; ++r) acc[r][v] = bias;
    }
  } else {
    COMNECK_UNROLL(12)
    for (int r = 0; r < Rows; ++r) {
      COMNECK_UNROLL(4)
      for (int v = 0; v < Vectors; ++v) acc[r][v] = Isa::load(call.acc + r * kMaxColumns + v * Isa::kLanes);
    }
  }
  const Segment *const end = call.segments + call.segment_count;
  for (const Segment *segment = call.segments; segment != end; ++segment) {
    const uint32_t taking_part = segment->rows;
    // Rows for which the tap lies outside the input go through the motions and get their old values back.
    alignas(64) float saved[Rows][kWidth];
    if (taking_part != kAll) {
      COMNECK_UNROLL(12)
      for (int r = 0; r < Rows; ++r) {
        COMNECK_UNROLL(4)
        for (int v = 0; v < Vectors; ++v) Isa::store(&saved[r][v * Isa::kLanes], acc[r][v]);
      }
    }
    const char *a[Rows];
    COMNECK_UNROLL(12)
    for (int r = 0; r < Rows; ++r) a[r] = segment->a[r];
    const char *b = call.b + segment->b * (kWidth * 4);
    const int64_t bytes = int64_t{segment->count} * 4;
    for (int64_t k = 0; k < bytes; k += 4) {
      Vector right[Vectors];
      COMNECK_UNROLL(4)
      for (int v = 0; v < Vectors; ++v) right[v] = Arithmetic::operand(b + v * (Isa::kLanes * 4));
      b += kWidth * 4;
      COMNECK_UNROLL(12)
      for (int r = 0; r < Rows; ++r) {
        const Vector left = Arithmetic::broadcast(a[r] + k);
        COMNECK_UNROLL(4)
        for (int v = 0; v < Vectors; ++v) acc[r][v] = Arithmetic::madd(left, right[v], acc[r][v]);
      }
    }
    if (taking_part != kAll) {
      COMNECK_UNROLL(12)
      for (int r = 0; r < Rows; ++r) {
        if ((taking_part >> r & 1u) == 0) {
          COMNECK_UNROLL(4)
          for (int v = 0; v < Vectors; ++v) acc[r][v] = Isa::load(&saved[r][v * Isa::kLanes]);
        }
      }
    }
  }
  const FinishCall *const finish = call.finish;
  if (finish == nullptr) {
    COMNECK_UNROLL(12)
    for (int r = 0; r < Rows; ++r) {
      COMNECK_UNROLL(4)
      for (int v = 0; v < Vectors; ++v) Isa::store(call.acc + r * kMaxColumns + v * Isa::kLanes, acc[r][v]);
    }
    return;
  }
  const bool relu = finish->function == COMNECK_RELU;
  COMNECK_UNROLL(12)
  for (int r = 0; r < Rows; ++r) {
    if (finish->residual[r] != nullptr) {
      const auto *residual = reinterpret_cast<const float *>(finish->residual[r]);
      COMNECK_UNROLL(4)
      for (int v = 0; v < Vectors; ++v) acc[r][v] = Isa::add(acc[r][v], Isa::load(residual + v * Isa::kLanes));
    }
    if (relu) {
      COMNECK_UNROLL(4)
      for (int v = 0; v < Vectors; ++v) acc[r][v] = Isa::relu(acc[r][v]);
    }
    auto *destination = reinterpret_cast<float *>(finish->destination[r]);
    COMNECK_UNROLL(4)
    for (int v = 0; v < Vectors; ++v) Isa::store(destination + v * Isa::kLanes, acc[r][v]);
  }
}

template <class Isa, class Arithmetic, int Vectors, int Rows>
void fill_tiles(GemmKernels &kernels) {
  kernels.tile[Vectors][Rows] = &tile<Isa, Arithmetic, Rows, Vectors>;
  if constexpr (Rows > 1) fill_tiles<Isa, Arithmetic, Vectors, Rows - 1>(kernels);
}

// Heights[v - 1]: rows of the tallest tile of v vectors.
template <class Isa, class Arithmetic, int... Heights>
GemmKernels make_kernels(void (*finish)(const FinishCall &)) {
  GemmKernels kernels{};
  kernels.lanes = Isa::kLanes;
  kernels.vectors = sizeof...(Heights);
  kernels.finish = finish;
  const int heights[] = {Heights...};
  for (int v = 0; v < kernels.vectors; ++v) kernels.rows[v + 1] = heights[v];
  [&]<int... V>(std::integer_sequence<int, V...>) {
    (fill_tiles<Isa, Arithmetic, V + 1, Heights>(kernels), ...);
  }(std::make_integer_sequence<int, sizeof...(Heights)>{});
  return kernels;
}

}  // namespace
}  // namespace comneck

#endif
