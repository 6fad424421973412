// Tile kernels in portable C++: slow (std::fma is a library call without the instruction), always there.
#include <math.h>

#include <bit>
#include <cstring>

#include "backend/gemm_finish.h"
#include "backend/gemm_tile.h"

namespace comneck {
namespace {

struct Portable {
  static constexpr int kLanes = 8;
  struct Vector {
    float lane[kLanes];
  };
  static Vector load(const float *from) {
    Vector value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  static void store(float *to, const Vector &value) { std::memcpy(to, &value, sizeof value); }
  static Vector add(Vector a, const Vector &b) {
    for (int i = 0; i < kLanes; ++i) a.lane[i] = a.lane[i] + b.lane[i];
    return a;
  }
  static Vector relu(Vector x) {
    for (float &lane : x.lane) lane = lane > 0.0f ? lane : 0.0f;
    return x;
  }
};

struct UnitsF32 {
  using Vector = Portable::Vector;
  static Vector broadcast(const char *unit) {
    float x;
    std::memcpy(&x, unit, 4);
    Vector value;
    for (float &lane : value.lane) lane = x;
    return value;
  }
  static Vector operand(const char *from) {
    Vector value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  static Vector madd(const Vector &a, const Vector &b, Vector c) {
    for (int i = 0; i < Portable::kLanes; ++i) c.lane[i] = ::fmaf(a.lane[i], b.lane[i], c.lane[i]);
    return c;
  }
};

// Units are pairs of bf16, the lower channel in the lower half.
struct UnitsBf16 : UnitsF32 {
  static Vector madd(const Vector &a, const Vector &b, Vector c) {
    for (int i = 0; i < Portable::kLanes; ++i) {
      const uint32_t x = std::bit_cast<uint32_t>(a.lane[i]);
      const uint32_t y = std::bit_cast<uint32_t>(b.lane[i]);
      c.lane[i] = ::fmaf(std::bit_cast<float>(x << 16), std::bit_cast<float>(y << 16), c.lane[i]);
      c.lane[i] = ::fmaf(std::bit_cast<float>(x & 0xFFFF0000u), std::bit_cast<float>(y & 0xFFFF0000u), c.lane[i]);
    }
    return c;
  }
};

}  // namespace

const GemmKernels &gemm_portable() {
  static const GemmKernels kernels = make_kernels<Portable, UnitsF32, 4, 4>(&finish_tile<PortableLanes>);
  return kernels;
}

const GemmKernels &gemm_bf16_portable() {
  static const GemmKernels kernels = make_kernels<Portable, UnitsBf16, 4, 4>(&finish_tile<PortableLanes>);
  return kernels;
}

}  // namespace comneck
