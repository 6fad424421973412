// Layers by a vendor's libraries, on the emulation with libraries that do what the vendor's document: which layers go there, that results are
// those of our kernels within what the type rounds, that they do not depend on the batch, and that whatever fails is replaced by our kernels.
//
//   vendor_test libcomneck_cuda_emulated.so libemulated_cublaslt.so
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "backend/bits.h"
#include "check.h"
#include "comneck_cuda.h"
#include "rans_symbols.h"

using namespace comneck;

namespace {

template <class F>
F find(void *library, const char *name) {
  F function = reinterpret_cast<F>(dlsym(library, name));
  if (function == nullptr) std::fprintf(stderr, "no %s\n", name);
  CHECK(function != nullptr);
  return function;
}

void *opened(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) std::fprintf(stderr, "%s\n", dlerror());
  CHECK(library != nullptr);
  return library;
}

struct Runtime {
  explicit Runtime(const char *path) {
    void *handle = opened(path);
#define FIND(name) name = find<decltype(&comneck_##name)>(handle, "comneck_" #name)
    FIND(last_error); FIND(context_create); FIND(context_destroy); FIND(cuda_libraries); FIND(layer_create); FIND(layer_destroy);
    FIND(plan_create); FIND(plan_port); FIND(plan_port_memory); FIND(plan_seal); FIND(plan_execute); FIND(plan_convolution);
    FIND(cuda_plan_launches); FIND(plan_bytes); FIND(plan_destroy);
#undef FIND
    inject = find<decltype(inject)>(handle, "comneck_emulation_inject");
    count = find<decltype(count)>(handle, "comneck_emulation_count");
  }

#define FUNCTION(name) decltype(&comneck_##name) name = nullptr
  FUNCTION(last_error); FUNCTION(context_create); FUNCTION(context_destroy); FUNCTION(cuda_libraries); FUNCTION(layer_create);
  FUNCTION(layer_destroy); FUNCTION(plan_create); FUNCTION(plan_port); FUNCTION(plan_port_memory); FUNCTION(plan_seal);
  FUNCTION(plan_execute); FUNCTION(plan_convolution); FUNCTION(cuda_plan_launches); FUNCTION(plan_bytes); FUNCTION(plan_destroy);
#undef FUNCTION
  void (*inject)(int32_t, int32_t, int32_t, int32_t) = nullptr;
  int64_t (*count)(int32_t) = nullptr;
};

// A vendor's library, and its faults.
struct Fake {
  Fake(const char *file, const char *name) : path(file) {
    void *handle = opened(file);
    inject = find<decltype(inject)>(handle, (std::string("comneck_fake_") + name + "_inject").c_str());
    count = find<decltype(count)>(handle, (std::string("comneck_fake_") + name + "_count").c_str());
  }
  const char *path;
  void (*inject)(int32_t function, int32_t after) = nullptr;
  int64_t (*count)(int32_t function) = nullptr;
};
enum { kCreate = 0, kDescCreate = 1, kHeuristic = 2, kCheck = 3, kMatmul = 4 };

int64_t bytes_of(int32_t type) { return type == COMNECK_F32 ? 4 : 2; }

// One layer on its own: a linear one, or a convolution.
struct Case {
  comneck_convolution geometry;
  int32_t height, width;      // of the source
  int32_t source_type;
  int32_t source_stride;      // channels of its buffer, of which the last ones are taken
  int32_t destination_type;
  int32_t function;
  int32_t residual_type;      // -1: none
};

struct Result {
  std::vector<float> values;  // [image][position][channel]
  std::vector<int64_t> launches;
  int32_t sealed, status;
};

struct Machine {
  Machine(const Runtime &runtime, const char *cublaslt) : api(runtime) {
    CHECK_EQ(api.context_create(0, COMNECK_ISA_AUTO, &context), COMNECK_OK);
    if (cublaslt == nullptr) return;
    char answer[512];
    CHECK_EQ(api.cuda_libraries(context, cublaslt, answer, sizeof answer), COMNECK_OK);
    text = answer;
  }
  Machine(const Machine &) = delete;
  ~Machine() { api.context_destroy(context); }

  // Images of a batch differ; image n of a batch of any size is the same.
  Result run(const Case &c, int32_t images, int32_t first = 0) const {
    const comneck_convolution &g = c.geometry;
    Random random{7};
    const int64_t inputs = int64_t{g.input_channels} * g.kernel_height * g.kernel_width;
    std::vector<float> weight(static_cast<size_t>(inputs * g.output_channels)), bias(static_cast<size_t>(g.output_channels));
    for (float &w : weight) w = static_cast<float>((random.uniform() * 2 - 1) / std::sqrt(static_cast<double>(inputs)));
    for (float &b : bias) b = static_cast<float>(random.uniform()) - 0.5f;
    comneck_layer *layer = nullptr;
    CHECK_EQ(api.layer_create(context, &g, weight.data(), static_cast<int64_t>(4 * weight.size()), COMNECK_F32, bias.data(),
                              static_cast<int64_t>(4 * bias.size()), COMNECK_F32, &layer),
             COMNECK_OK);
    const bool transposed = g.kind == COMNECK_TRANSPOSED;
    const int32_t height = transposed ? c.height * g.stride : (c.height + 2 * g.padding - g.kernel_height) / g.stride + 1;
    const int32_t width = transposed ? c.width * g.stride : (c.width + 2 * g.padding - g.kernel_width) / g.stride + 1;
    int64_t reach = 0;
    const auto view = [&](int32_t type, int32_t tall, int32_t wide, int32_t channels, int32_t stride) {
      const int64_t bytes = int64_t{images} * tall * wide * stride * bytes_of(type);
      const comneck_view made{reach, bytes, type, COMNECK_FULL, images, tall, wide, channels, stride - channels, stride};
      reach += (bytes + 63) / 64 * 64;
      return made;
    };
    const comneck_view source = view(c.source_type, c.height, c.width, g.input_channels, c.source_stride);
    const comneck_view destination = view(c.destination_type, height, width, g.output_channels, g.output_channels);
    const comneck_view residual =
        c.residual_type < 0 ? comneck_view{} : view(c.residual_type, height, width, g.output_channels, g.output_channels);
    comneck_plan *plan = nullptr;
    CHECK_EQ(api.plan_create(context, &plan), COMNECK_OK);
    CHECK_EQ(api.plan_port(plan, source.offset_bytes, source.bytes, COMNECK_INPUT), COMNECK_OK);
    CHECK_EQ(api.plan_port(plan, destination.offset_bytes, destination.bytes, COMNECK_OUTPUT), COMNECK_OK);
    if (c.residual_type >= 0) CHECK_EQ(api.plan_port(plan, residual.offset_bytes, residual.bytes, COMNECK_INPUT), COMNECK_OK);
    CHECK_EQ(api.plan_convolution(plan, layer, &source, 1, c.residual_type < 0 ? nullptr : &residual, c.function, &destination), COMNECK_OK);
    Result result{};
    void *none = nullptr;
    result.sealed = api.plan_seal(plan, reach, &none);
    if (result.sealed == COMNECK_OK) {
      fill(plan, source, first);
      if (c.residual_type >= 0) fill(plan, residual, first + 1000);
      const int64_t allocations = api.count(0);
      for (int i = 0; i < 2; i++) result.status = api.plan_execute(plan);  // the second one finds what the first one left
      if (!faults) CHECK_EQ(api.count(0), allocations);
      result.values = read(plan, destination);
    }
    result.launches.resize(COMNECK_CUDA_KINDS);
    CHECK_EQ(api.cuda_plan_launches(plan, result.launches.data(), COMNECK_CUDA_KINDS), COMNECK_OK);
    api.plan_destroy(plan);
    api.layer_destroy(layer);
    return result;
  }

  void *memory(const comneck_plan *plan, const comneck_view &view) const {
    void *at = nullptr;
    CHECK_EQ(api.plan_port_memory(plan, view.offset_bytes, &at), COMNECK_OK);
    return at;
  }

  void fill(const comneck_plan *plan, const comneck_view &view, int32_t seed) const {
    void *at = memory(plan, view);
    const int64_t each = int64_t{view.height} * view.width * view.channel_stride;
    for (int32_t n = 0; n < view.images; n++) {
      Random random{static_cast<uint64_t>(seed + n + 1)};
      for (int64_t i = n * each; i < (n + 1) * each; i++) {
        const auto value = static_cast<float>(random.uniform() * 4 - 2);
        if (view.type == COMNECK_F32) {
          static_cast<float *>(at)[i] = value;
        } else {
          static_cast<uint16_t *>(at)[i] = view.type == COMNECK_BF16 ? to_bf16(value) : to_f16(value);
        }
      }
    }
  }

  std::vector<float> read(const comneck_plan *plan, const comneck_view &view) const {
    const void *at = memory(plan, view);
    std::vector<float> values(static_cast<size_t>(view.bytes / bytes_of(view.type)));
    for (size_t i = 0; i < values.size(); i++) {
      const uint16_t half = view.type == COMNECK_F32 ? uint16_t{0} : static_cast<const uint16_t *>(at)[i];
      values[i] = view.type == COMNECK_F32    ? static_cast<const float *>(at)[i]
                  : view.type == COMNECK_BF16 ? from_bf16(half)
                                              : from_f16(half);
    }
    return values;
  }

  const Runtime &api;
  comneck_context *context = nullptr;
  std::string text;
  bool faults = false;  // calls fail on purpose, so that a graph may be made later than when the plan is sealed
};

// tolerance: absolute, and of the reference.
void check_near(const std::vector<float> &values, const std::vector<float> &reference, double tolerance) {
  CHECK_EQ(values.size(), reference.size());
  size_t worst = 0;
  double most = -1;
  for (size_t i = 0; i < values.size(); i++) {
    const double error = std::fabs(static_cast<double>(values[i]) - reference[i]) / (1 + std::fabs(static_cast<double>(reference[i])));
    if (!(error <= most)) {
      most = error;
      worst = i;
    }
  }
  if (!(most <= tolerance)) std::fprintf(stderr, "element %zu: %g, should be %g\n", worst, static_cast<double>(values[worst]), static_cast<double>(reference[worst]));
  CHECK(most <= tolerance);
}

void check_same(const Result &a, const Result &b) {
  CHECK_EQ(a.values.size(), b.values.size());
  CHECK(std::memcmp(a.values.data(), b.values.data(), 4 * a.values.size()) == 0);
}

// Each image alone gives what it gives in a batch.
void check_batches(const Machine &machine, const Case &c, int32_t kind) {
  const Result batch = machine.run(c, 3);
  CHECK_EQ(batch.status, COMNECK_OK);
  CHECK_EQ(batch.launches[static_cast<size_t>(kind)], 1);
  const size_t each = batch.values.size() / 3;
  for (int32_t n = 0; n < 3; n++) {
    const Result alone = machine.run(c, 1, n);
    CHECK_EQ(alone.values.size(), each);
    CHECK(std::memcmp(alone.values.data(), batch.values.data() + n * each, 4 * each) == 0);
  }
}

Case linear(int32_t precision, int32_t rows, int32_t in, int32_t out, int32_t function, bool residual) {
  const int32_t type = precision == COMNECK_PRECISION_BF16 ? COMNECK_BF16 : COMNECK_F16;
  return {{in, out, 1, 1, 1, 0, COMNECK_DIRECT, precision}, 1, rows, type, in, residual ? COMNECK_F32 : type, function, residual ? COMNECK_F32 : -1};
}

void check_linear(const Runtime &runtime, const Fake &cublaslt) {
  const Machine own(runtime, nullptr), vendor(runtime, cublaslt.path);
  CHECK(vendor.text == "cuBLASLt 13.1.1");
  for (const int32_t precision : {int32_t{COMNECK_PRECISION_BF16}, int32_t{COMNECK_PRECISION_F16}}) {
    const int32_t type = precision == COMNECK_PRECISION_BF16 ? COMNECK_BF16 : COMNECK_F16;
    const double rounding = type == COMNECK_BF16 ? 0.0079 : 0.00098;  // one unit of the result, and a rounded bias
    for (const int32_t rows : {1, 10, 21, 22}) {  // algorithms for few and for many; with 21 one that does no batch
      for (const bool residual : {false, true}) {
        for (const int32_t function : {int32_t{COMNECK_NONE}, int32_t{COMNECK_RELU}}) {
          const Case c = linear(precision, rows, 72, 40, function, residual);
          const Result result = vendor.run(c, 2), reference = own.run(c, 2);
          CHECK_EQ(reference.launches[COMNECK_CUDA_TENSOR_GEMM], 1);
          CHECK_EQ(result.launches[COMNECK_CUDA_TENSOR_GEMM], 0);
          CHECK_EQ(result.launches[COMNECK_CUDA_CUBLASLT], 1);
          check_near(result.values, reference.values, residual ? 3e-6 : rounding);
          check_batches(vendor, c, COMNECK_CUDA_CUBLASLT);
        }
      }
    }
    // Channels of a wider buffer; a residual in the type; results in f32 without one.
    Case slice = linear(precision, 21, 72, 40, COMNECK_NONE, false);
    slice.source_stride = 88;
    Case halves = linear(precision, 22, 72, 40, COMNECK_RELU, false);
    halves.residual_type = type;
    Case logits = linear(precision, 21, 72, 40, COMNECK_NONE, false);
    logits.destination_type = COMNECK_F32;
    for (const Case &c : {slice, halves, logits}) {
      const Result result = vendor.run(c, 2);
      CHECK_EQ(result.launches[COMNECK_CUDA_CUBLASLT], 1);
      check_near(result.values, own.run(c, 2).values, c.destination_type == COMNECK_F32 ? 3e-6 : rounding);
    }
    // Ours: other functions, sources in f32, rows or places that are not aligned, a residual of another type than the result's.
    Case floats = linear(precision, 21, 72, 40, COMNECK_NONE, false);
    floats.source_type = COMNECK_F32;
    Case shifted = linear(precision, 21, 72, 40, COMNECK_NONE, false);
    shifted.source_stride = 76;
    Case mixed = linear(precision, 21, 72, 40, COMNECK_NONE, true);
    mixed.residual_type = type;
    for (const Case &c : {linear(precision, 21, 72, 40, COMNECK_QUICK_GELU, false), linear(precision, 21, 72, 40, COMNECK_GELU, false),
                          linear(precision, 21, 70, 40, COMNECK_NONE, false), linear(precision, 21, 72, 36, COMNECK_NONE, false), floats, shifted, mixed}) {
      const Result result = vendor.run(c, 2);
      CHECK_EQ(result.launches[COMNECK_CUDA_CUBLASLT], 0);
      CHECK_EQ(result.launches[COMNECK_CUDA_TENSOR_GEMM], 1);
      check_same(result, own.run(c, 2));
    }
  }
  Case exact = linear(COMNECK_PRECISION_F32, 21, 72, 40, COMNECK_NONE, true);
  exact.source_type = COMNECK_F32;
  const Result result = vendor.run(exact, 2);
  CHECK_EQ(result.launches[COMNECK_CUDA_CANONICAL_CONVOLUTION], 1);
  check_same(result, own.run(exact, 2));
}

void check_absent(const Runtime &runtime, const Fake &cublaslt) {
  const Case c = linear(COMNECK_PRECISION_BF16, 21, 72, 40, COMNECK_NONE, true);
  const Machine own(runtime, nullptr);
  const Result reference = own.run(c, 2);
  const auto check_ours = [&](const Machine &machine, const char *why) {
    if (machine.text.find(why) == std::string::npos) std::fprintf(stderr, "'%s' does not say '%s'\n", machine.text.c_str(), why);
    CHECK(machine.text.find(why) != std::string::npos);
    const Result result = machine.run(c, 2);
    CHECK_EQ(result.launches[COMNECK_CUDA_TENSOR_GEMM], 1);
    check_same(result, reference);
  };
  check_ours(Machine(runtime, "/nowhere/libcublasLt.so.13"), "/nowhere/libcublasLt.so.13");
  check_ours(Machine(runtime, "libdl.so.2"), "it has no function cublasLt");
  CHECK_EQ(setenv("COMNECK_FAKE_CUBLASLT_VERSION", "111103", 1), 0);
  check_ours(Machine(runtime, cublaslt.path), "version 11.11.3 is not one of 12 and 13");
  CHECK_EQ(unsetenv("COMNECK_FAKE_CUBLASLT_VERSION"), 0);
  cublaslt.inject(kCreate, 0);
  check_ours(Machine(runtime, cublaslt.path), "version 13.1.1 cannot be used here: its status 1");
  cublaslt.inject(-1, 0);
  char text[64];
  CHECK_EQ(runtime.cuda_libraries(own.context, nullptr, text, sizeof text), COMNECK_OK);
  CHECK(std::string(text) == "cuBLASLt: the emulation takes a library by its path only");
  const Machine twice(runtime, cublaslt.path);
  CHECK_EQ(runtime.cuda_libraries(twice.context, cublaslt.path, text, sizeof text), COMNECK_MISUSE);
  CHECK_EQ(runtime.cuda_libraries(nullptr, cublaslt.path, text, sizeof text), COMNECK_MISUSE);
}

void check_failures(const Runtime &runtime, const Fake &cublaslt) {
  const Case c = linear(COMNECK_PRECISION_F16, 22, 72, 40, COMNECK_RELU, true);
  const Machine own(runtime, nullptr);
  Machine vendor(runtime, cublaslt.path);
  const Result reference = own.run(c, 3), product = vendor.run(c, 3);
  vendor.faults = true;
  for (const int32_t function : {int32_t{kDescCreate}, int32_t{kHeuristic}, int32_t{kMatmul}}) {  // the last one while the plan is sealed
    cublaslt.inject(function, 0);
    const Result result = vendor.run(c, 3);
    cublaslt.inject(-1, 0);
    CHECK_EQ(result.status, COMNECK_OK);
    CHECK_EQ(result.launches[COMNECK_CUDA_TENSOR_GEMM], 1);
    check_same(result, reference);
  }
  // An algorithm that does no batch does one image after the other.
  cublaslt.inject(kCheck, 0);
  const int64_t before = cublaslt.count(kMatmul);
  const Result apart = vendor.run(c, 3);
  cublaslt.inject(-1, 0);
  CHECK_EQ(cublaslt.count(kMatmul) - before, 2 * 3);  // tried, and captured
  check_same(apart, product);
  // What worked when the plan was sealed and fails later is a status: while it is captured, and when it is queued after that.
  cublaslt.inject(kMatmul, 1);
  const Result late = vendor.run(c, 3);
  cublaslt.inject(-1, 0);
  CHECK_EQ(late.sealed, COMNECK_OK);
  CHECK(late.status != COMNECK_OK);
  check_same(vendor.run(c, 3), product);
  // Every CUDA call of a life fails once: a status, or our kernel in the library's place.
  for (int32_t call = 0; call < 4; call++) {
    const int64_t first = runtime.count(call);
    (void)vendor.run(c, 1);
    const int64_t calls = runtime.count(call) - first;
    for (int32_t after = 1; after < calls; after++) {  // not the layer's, which is checked elsewhere
      runtime.inject(call, after, 719, 0);
      const Result result = vendor.run(c, 1);
      runtime.inject(0, 0, 0, 0);
      if (result.sealed == COMNECK_OK && result.status == COMNECK_OK) {
        CHECK_EQ(result.launches[COMNECK_CUDA_TENSOR_GEMM] + result.launches[COMNECK_CUDA_CUBLASLT], 1);
      }
    }
  }
  check_same(vendor.run(c, 3), product);
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: vendor_test libcomneck_cuda_emulated.so libemulated_cublaslt.so\n");
    return 2;
  }
  const Runtime runtime(argv[1]);
  const Fake cublaslt(argv[2], "cublaslt");
  check_linear(runtime, cublaslt);
  check_absent(runtime, cublaslt);
  check_failures(runtime, cublaslt);
  return 0;
}
