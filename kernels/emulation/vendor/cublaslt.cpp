// What cuBLASLt documents for the calls that vendor/cublaslt.cu makes, on the emulation's memory and streams: a library of its own with the real
// one's functions, for tests only. Anything that those calls should not say is refused, as far as a library can see it.
//
// Where the real one may choose, this one chooses what is hardest on the caller: its heuristic's first answer splits k unless that is forbidden;
// algorithms differ in the order of their sums, and which one comes first depends on the number of rows; some want workspace, all of which they
// overwrite; one cannot do more rows than it was found for.
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "backend/bits.h"
#include "comneck.h"
#include "vendor/cublaslt_api.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

using namespace comneck::cuda::cublaslt;

namespace comneck::cuda::cublaslt {

struct HandleOpaque {
  uint32_t magic = 0xC0B1A571u;
};
struct MatmulDescOpaque {
  int32_t transposed_a = 0;
  uint32_t epilogue = 1;
  const void *bias = nullptr;
};
struct MatrixLayoutOpaque {
  int type;
  uint64_t rows, columns;
  int64_t leading;
};
struct PreferenceOpaque {
  uint64_t workspace = 0;
  uint32_t reductions = 7;
  uint32_t alignment[4] = {256, 256, 256, 256};
};

}  // namespace comneck::cuda::cublaslt

namespace {

// Of an algorithm: how many products of k are added up before the sum, the split of k, whether it takes more rows than it was found for.
struct Config {
  uint64_t chunk;
  uint64_t splits;
  uint64_t rows;  // 0: any number
  uint64_t workspace;
  uint64_t alignment;
  uint64_t magic;
};
constexpr uint64_t kMagic = 0xA160;

struct Fault {
  int32_t function = -1;
  int32_t after = 0;
};
Fault fault;
int64_t calls[5];

// Functions that can be made to fail, counted.
enum { kCreate = 0, kDescCreate = 1, kHeuristic = 2, kCheck = 3, kMatmul = 4 };

bool fails(int32_t function) {
  calls[function]++;
  return fault.function == function && fault.after-- <= 0;
}

bool is_type(int type) { return type == kR32F || type == kR16F || type == kR16BF; }
int64_t bytes_of(int type) { return type == kR32F ? 4 : 2; }

float load(const void *data, int type, int64_t i) {
  if (type == kR32F) return static_cast<const float *>(data)[i];
  const uint16_t half = static_cast<const uint16_t *>(data)[i];
  return type == kR16BF ? comneck::from_bf16(half) : comneck::from_f16(half);
}

void store(void *data, int type, int64_t i, float value) {
  if (type == kR32F) {
    static_cast<float *>(data)[i] = value;
  } else {
    static_cast<uint16_t *>(data)[i] = type == kR16BF ? comneck::to_bf16(value) : comneck::to_f16(value);
  }
}

Config config_of(const Algorithm &algorithm) {
  Config config;
  std::memcpy(&config, algorithm.data, sizeof config);
  return config;
}

// m x n = (k x m transposed) * k x n, of types that the documentation's table has together.
bool fits(const MatmulDescOpaque *desc, const MatrixLayoutOpaque *a, const MatrixLayoutOpaque *b, const MatrixLayoutOpaque *c,
          const MatrixLayoutOpaque *d) {
  return desc != nullptr && a != nullptr && b != nullptr && c != nullptr && d != nullptr && desc->transposed_a == kOpT &&
         (desc->epilogue == kEpilogueBias || desc->epilogue == kEpilogueReluBias) && desc->bias != nullptr && a->type == b->type &&
         a->type != kR32F && c->type == d->type && (d->type == kR32F || d->type == a->type) && a->rows == b->rows && a->columns == d->rows &&
         b->columns == d->columns && c->rows == d->rows && c->columns == d->columns;
}

bool is_aligned(const void *memory, int64_t leading, int type, uint64_t alignment) {
  return reinterpret_cast<uintptr_t>(memory) % alignment == 0 && static_cast<uint64_t>(leading * bytes_of(type)) % 16 == 0;
}

struct Product {
  MatmulDescOpaque desc;
  MatrixLayoutOpaque a, b, c, d;
  const void *a_data, *b_data, *c_data;
  void *d_data;
  float alpha, beta;
  Config config;
  void *workspace;
};

int32_t multiply(const void *arguments) {
  const Product &p = *static_cast<const Product *>(arguments);
  if (p.config.workspace > 0) std::memset(p.workspace, 0xFF, p.config.workspace);
  const auto m = static_cast<int64_t>(p.d.rows), n = static_cast<int64_t>(p.d.columns), k = static_cast<int64_t>(p.a.rows);
  const auto chunk = static_cast<int64_t>(p.config.chunk);
  for (int64_t j = 0; j < n; j++) {
    for (int64_t i = 0; i < m; i++) {
      float sum = 0.0f;
      for (int64_t first = 0; first < k; first += chunk) {
        float part = 0.0f;
        for (int64_t x = first; x < std::min(k, first + chunk); x++) {
          part += load(p.a_data, p.a.type, i * p.a.leading + x) * load(p.b_data, p.b.type, j * p.b.leading + x);
        }
        sum += part;
      }
      float value = p.alpha * sum;
      if (p.beta != 0.0f) value += p.beta * load(p.c_data, p.c.type, j * p.c.leading + i);
      value += load(p.desc.bias, p.d.type, i);
      if (p.desc.epilogue == kEpilogueReluBias) value = std::fmax(value, 0.0f);
      store(p.d_data, p.d.type, j * p.d.leading + i, value);
    }
  }
  return cudaSuccess;
}

}  // namespace

// Makes the call of a function (0 Create, 1 MatmulDescCreate, 2 heuristic, 3 check, 4 Matmul) after `after` more of them fail, and all later
// ones; -1: none.
EXPORTED void comneck_fake_cublaslt_inject(int32_t function, int32_t after) { fault = {function, after}; }
EXPORTED int64_t comneck_fake_cublaslt_count(int32_t function) { return calls[function]; }

EXPORTED size_t cublasLtGetVersion() {
  const char *other = std::getenv("COMNECK_FAKE_CUBLASLT_VERSION");
  return other == nullptr ? 130101 : static_cast<size_t>(std::atoll(other));
}

EXPORTED int cublasLtCreate(Handle *handle) {
  if (fails(kCreate)) return 1;
  *handle = new HandleOpaque;
  return kSuccess;
}

EXPORTED int cublasLtDestroy(Handle handle) {
  delete handle;
  return kSuccess;
}

EXPORTED int cublasLtMatmulDescCreate(MatmulDesc *desc, int compute_type, int scale_type) {
  if (compute_type != kCompute32F || scale_type != kR32F) return kInvalidValue;
  if (fails(kDescCreate)) return 3;
  *desc = new MatmulDescOpaque;
  return kSuccess;
}

EXPORTED int cublasLtMatmulDescDestroy(MatmulDesc desc) {
  delete desc;
  return kSuccess;
}

EXPORTED int cublasLtMatmulDescSetAttribute(MatmulDesc desc, int attribute, const void *value, size_t bytes) {
  const auto take = [&](auto *to) {
    if (bytes != sizeof *to) return kInvalidValue;
    std::memcpy(to, value, bytes);
    return kSuccess;
  };
  switch (attribute) {
    case kDescTransA: return take(&desc->transposed_a);
    case kDescEpilogue: return take(&desc->epilogue);
    case kDescBiasPointer: return take(&desc->bias);
    default: return kInvalidValue;
  }
}

EXPORTED int cublasLtMatrixLayoutCreate(MatrixLayout *layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  if (!is_type(type) || rows == 0 || columns == 0 || leading < static_cast<int64_t>(rows)) return kInvalidValue;
  *layout = new MatrixLayoutOpaque{type, rows, columns, leading};
  return kSuccess;
}

EXPORTED int cublasLtMatrixLayoutDestroy(MatrixLayout layout) {
  delete layout;
  return kSuccess;
}

EXPORTED int cublasLtMatmulPreferenceCreate(Preference *preference) {
  *preference = new PreferenceOpaque;
  return kSuccess;
}

EXPORTED int cublasLtMatmulPreferenceDestroy(Preference preference) {
  delete preference;
  return kSuccess;
}

EXPORTED int cublasLtMatmulPreferenceSetAttribute(Preference preference, int attribute, const void *value, size_t bytes) {
  const auto take = [&](auto *to) {
    if (bytes != sizeof *to) return kInvalidValue;
    std::memcpy(to, value, bytes);
    return kSuccess;
  };
  if (attribute == kPreferenceWorkspaceBytes) return take(&preference->workspace);
  if (attribute == kPreferenceReductionMask) return take(&preference->reductions);
  if (attribute >= kPreferenceAlignmentA && attribute <= kPreferenceAlignmentD) {
    uint32_t alignment = 0;
    const int status = take(&alignment);
    if (status != kSuccess || alignment == 0 || (alignment & (alignment - 1)) != 0) return kInvalidValue;
    preference->alignment[attribute - kPreferenceAlignmentA] = alignment;
    return kSuccess;
  }
  return kInvalidValue;
}

EXPORTED int cublasLtMatmulAlgoGetHeuristic(Handle handle, MatmulDesc desc, MatrixLayout a, MatrixLayout b, MatrixLayout c, MatrixLayout d,
                                            Preference preference, int wanted, Heuristic *answers, int *found) {
  if (handle == nullptr || handle->magic != HandleOpaque{}.magic || preference == nullptr || wanted < 1 || !fits(desc, a, b, c, d)) {
    return kInvalidValue;
  }
  *found = 0;
  if (fails(kHeuristic)) return kNotSupported;
  const uint64_t alignment = std::min(preference->alignment[1], std::min(preference->alignment[2], preference->alignment[3]));
  const bool few = b->columns < 20;
  const Config split{16, 4, 0, 4096, alignment, kMagic}, wide{64, 1, 0, 1024, alignment, kMagic}, narrow{8, 1, 0, 0, alignment, kMagic},
      bound{24, 1, b->columns, 512, alignment, kMagic};
  const Config by_size[3] = {split, few ? narrow : b->columns % 2 == 1 ? bound : wide, few ? wide : narrow};
  for (const Config &config : by_size) {
    if ((config.splits > 1 && preference->reductions == kReductionNone) || config.workspace > preference->workspace || *found == wanted) continue;
    Heuristic answer{};
    std::memcpy(answer.algorithm.data, &config, sizeof config);
    answer.workspace_bytes = config.workspace;
    answer.state = kSuccess;
    answer.waves = 1.0f;
    answers[(*found)++] = answer;
  }
  return kSuccess;
}

EXPORTED int cublasLtMatmulAlgoCheck(Handle handle, MatmulDesc desc, MatrixLayout a, MatrixLayout b, MatrixLayout c, MatrixLayout d,
                                     const Algorithm *algorithm, Heuristic *answer) {
  if (handle == nullptr || algorithm == nullptr || answer == nullptr || !fits(desc, a, b, c, d)) return kInvalidValue;
  if (fails(kCheck)) return kNotSupported;
  const Config config = config_of(*algorithm);
  if (config.magic != kMagic) return kInvalidValue;
  if (config.rows != 0 && config.rows != b->columns) return kNotSupported;
  answer->workspace_bytes = config.workspace;
  answer->state = kSuccess;
  return kSuccess;
}

EXPORTED int cublasLtMatmulAlgoConfigGetAttribute(const Algorithm *algorithm, int attribute, void *value, size_t bytes, size_t *written) {
  const Config config = config_of(*algorithm);
  if (bytes != 4) return kInvalidValue;
  const uint32_t answer = attribute == kConfigSplitK ? static_cast<uint32_t>(config.splits) : config.splits > 1 ? 2 : kReductionNone;
  if (attribute != kConfigSplitK && attribute != kConfigReduction) return kInvalidValue;
  std::memcpy(value, &answer, 4);
  *written = 4;
  return kSuccess;
}

EXPORTED int cublasLtMatmul(Handle handle, MatmulDesc desc, const void *alpha, const void *a, MatrixLayout a_layout, const void *b,
                            MatrixLayout b_layout, const void *beta, const void *c, MatrixLayout c_layout, void *d, MatrixLayout d_layout,
                            const Algorithm *algorithm, void *workspace, size_t workspace_bytes, cudaStream_t stream) {
  if (handle == nullptr || handle->magic != HandleOpaque{}.magic || algorithm == nullptr || stream == nullptr ||
      !fits(desc, a_layout, b_layout, c_layout, d_layout)) {
    return kInvalidValue;
  }
  if (fails(kMatmul)) return kExecutionFailed;
  const Config config = config_of(*algorithm);
  const bool in_place = c == d && c_layout->leading == d_layout->leading;
  if (config.magic != kMagic || (config.rows != 0 && config.rows != b_layout->columns)) return kNotSupported;
  if (config.workspace > workspace_bytes || (config.workspace > 0 && reinterpret_cast<uintptr_t>(workspace) % 256 != 0) ||
      !is_aligned(a, a_layout->leading, a_layout->type, 256) || !is_aligned(b, b_layout->leading, b_layout->type, config.alignment) ||
      !is_aligned(c, c_layout->leading, c_layout->type, config.alignment) ||
      !is_aligned(d, d_layout->leading, d_layout->type, config.alignment) || (c == d && !in_place)) {
    return kInvalidValue;
  }
  const Product product{*desc, *a_layout, *b_layout, *c_layout, *d_layout, a, b, c, d, *static_cast<const float *>(alpha),
                        *static_cast<const float *>(beta), config, workspace};
  const auto *door = reinterpret_cast<const comneck_emulated_door *>(stream);
  return door->submit(stream, multiply, &product, sizeof product) == cudaSuccess ? kSuccess : kExecutionFailed;
}
