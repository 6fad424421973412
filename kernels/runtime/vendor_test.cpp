// Layers by a vendor's libraries, on the emulation with libraries that do what the vendor's document: which layers go there, that results are
// those of our kernels within what the type rounds, that they do not depend on the batch, and that whatever fails is replaced by our kernels.
//
//   vendor_test libcomneck_cuda_emulated.so libemulated_cublaslt.so libemulated_cudnn.so
//   vendor_test libcomneck_cuda.so      on a device, with the real ones where the system finds them: a line for each layer and who did it
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
    FIND(last_error); FIND(context_create); FIND(context_destroy); FIND(cuda_library); FIND(layer_create); FIND(layer_destroy);
    FIND(plan_create); FIND(plan_port); FIND(plan_port_memory); FIND(plan_seal); FIND(plan_execute); FIND(plan_convolution);
    FIND(cuda_plan_launches); FIND(plan_bytes); FIND(plan_destroy);
#undef FIND
    inject = reinterpret_cast<decltype(inject)>(dlsym(handle, "comneck_emulation_inject"));
    count = reinterpret_cast<decltype(count)>(dlsym(handle, "comneck_emulation_count"));
  }

#define FUNCTION(name) decltype(&comneck_##name) name = nullptr
  FUNCTION(last_error); FUNCTION(context_create); FUNCTION(context_destroy); FUNCTION(cuda_library); FUNCTION(layer_create);
  FUNCTION(layer_destroy); FUNCTION(plan_create); FUNCTION(plan_port); FUNCTION(plan_port_memory); FUNCTION(plan_seal);
  FUNCTION(plan_execute); FUNCTION(plan_convolution); FUNCTION(cuda_plan_launches); FUNCTION(plan_bytes); FUNCTION(plan_destroy);
#undef FUNCTION
  void (*inject)(int32_t, int32_t, int32_t, int32_t) = nullptr;  // null but on the emulation
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
// What can be made to fail, of cuBLASLt and of cuDNN.
enum { kCreate = 0, kDescCreate = 1, kHeuristic = 2, kCheck = 3, kMatmul = 4 };
enum { kDescriptor = 1, kAlgorithms = 2, kConvolve = 3, kAdd = 4 };

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
  // library: -1 for our own kernels.
  explicit Machine(const Runtime &runtime, int32_t library = -1, const char *path = nullptr) : api(runtime) {
    CHECK_EQ(api.context_create(0, COMNECK_ISA_AUTO, &context), COMNECK_OK);
    if (library < 0) return;
    char answer[512];
    CHECK_EQ(api.cuda_library(context, library, path, answer, sizeof answer), COMNECK_OK);
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
      const int64_t allocations = api.count == nullptr ? 0 : api.count(0);
      for (int i = 0; i < 2; i++) result.status = api.plan_execute(plan);  // the second one finds what the first one left
      if (!faults && api.count != nullptr) CHECK_EQ(api.count(0), allocations);
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

int64_t of_kind(const Result &result, int32_t kind) { return result.launches[static_cast<size_t>(kind)]; }
int64_t our_convolutions(const Result &result) {
  return of_kind(result, COMNECK_CUDA_CANONICAL_CONVOLUTION) + of_kind(result, COMNECK_CUDA_TENSOR_CONVOLUTION);
}
int64_t ours(const Result &result) { return our_convolutions(result) + of_kind(result, COMNECK_CUDA_TENSOR_GEMM); }

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

// Each image alone gives what it gives in a batch, by the same kernel.
void check_batches(const Machine &machine, const Case &c, int32_t kind) {
  const Result batch = machine.run(c, 3);
  CHECK_EQ(batch.status, COMNECK_OK);
  const size_t each = batch.values.size() / 3;
  for (int32_t n = 0; n < 3; n++) {
    const Result alone = machine.run(c, 1, n);
    CHECK_EQ(of_kind(alone, kind), of_kind(batch, kind));
    CHECK_EQ(alone.values.size(), each);
    CHECK(std::memcmp(alone.values.data(), batch.values.data() + n * each, 4 * each) == 0);
  }
}

Case linear(int32_t precision, int32_t rows, int32_t in, int32_t out, int32_t function, bool residual) {
  const int32_t type = precision == COMNECK_PRECISION_BF16 ? COMNECK_BF16 : COMNECK_F16;
  return {{in, out, 1, 1, 1, 0, COMNECK_DIRECT, precision}, 1, rows, type, in, residual ? COMNECK_F32 : type, function, residual ? COMNECK_F32 : -1};
}

void check_linear(const Runtime &runtime, const Fake &cublaslt) {
  const Machine own(runtime), vendor(runtime, COMNECK_CUDA_LIBRARY_CUBLASLT, cublaslt.path);
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

Case convolution(int32_t precision, bool halves, int32_t in, int32_t out, int32_t kernel, int32_t stride, int32_t kind, int32_t function) {
  const int32_t type = !halves ? COMNECK_F32 : precision == COMNECK_PRECISION_BF16 ? COMNECK_BF16 : COMNECK_F16;
  const int32_t padding = (kernel - 1) / 2;
  return {{in, out, kernel, kernel, stride, padding, kind, precision}, 8, 6, type, in, type, function, -1};
}

void check_convolutions(const Runtime &runtime, const Fake &cudnn) {
  const Machine own(runtime), vendor(runtime, COMNECK_CUDA_LIBRARY_CUDNN, cudnn.path);
  CHECK(vendor.text == "cuDNN 9.19.0");
  for (const int32_t precision : {int32_t{COMNECK_PRECISION_BF16}, int32_t{COMNECK_PRECISION_F16}}) {
    const bool bf16 = precision == COMNECK_PRECISION_BF16;
    const double rounding = bf16 ? 0.012 : 0.002;  // of operands, and of a result in halves
    std::vector<Case> taken;
    for (const bool halves : {false, true}) {
      taken.push_back(convolution(precision, halves, 24, 16, 3, 1, COMNECK_DIRECT, COMNECK_RELU));
      taken.push_back(convolution(precision, halves, 24, 16, 3, 1, COMNECK_DIRECT, COMNECK_NONE));
      taken.push_back(convolution(precision, halves, 3, 8, 5, 2, COMNECK_DIRECT, COMNECK_NONE));
      taken.push_back(convolution(precision, halves, 8, 16, 5, 2, COMNECK_TRANSPOSED, COMNECK_NONE));
      taken.push_back(convolution(precision, halves, 8, 3, 4, 2, COMNECK_TRANSPOSED, COMNECK_NONE));
      taken.push_back(convolution(precision, halves, 8, 16, 3, 2, COMNECK_TRANSPOSED, COMNECK_NONE));
      taken.push_back(convolution(precision, halves, 8, 16, 2, 2, COMNECK_TRANSPOSED, COMNECK_NONE));
      taken.back().source_stride = 24;
    }
    for (const Case &c : taken) {
      const Result result = vendor.run(c, 2), reference = own.run(c, 2);
      CHECK_EQ(our_convolutions(reference), 1);
      CHECK_EQ(our_convolutions(result), 0);
      CHECK_EQ(result.launches[COMNECK_CUDA_CUDNN], 1);
      check_near(result.values, reference.values, rounding);
      check_batches(vendor, c, COMNECK_CUDA_CUDNN);
    }
    // Ours: other functions, a residual, two types, a checkerboard, images that do not begin where cuDNN wants them.
    Case added = convolution(precision, false, 24, 16, 3, 1, COMNECK_DIRECT, COMNECK_RELU);
    added.residual_type = COMNECK_F32;
    Case mixed = convolution(precision, true, 24, 16, 3, 1, COMNECK_DIRECT, COMNECK_RELU);
    mixed.destination_type = COMNECK_F32;
    Case odd = convolution(precision, false, 3, 16, 3, 1, COMNECK_DIRECT, COMNECK_RELU);
    odd.width = odd.height = 5;
    for (const Case &c : {convolution(precision, false, 8, 16, 3, 1, COMNECK_DIRECT, COMNECK_GELU),
                          convolution(precision, false, 8, 16, 5, 2, COMNECK_TRANSPOSED, COMNECK_RELU),
                          convolution(precision, false, 8, 16, 5, 1, COMNECK_CHECKERBOARD, COMNECK_NONE), added, mixed, odd}) {
      const Result result = vendor.run(c, 2);
      CHECK_EQ(result.launches[COMNECK_CUDA_CUDNN], 0);
      CHECK_EQ(our_convolutions(result), 1);
      check_same(result, own.run(c, 2));
    }
    // A single position's layer is for tensor cores or cuBLASLt.
    CHECK_EQ(vendor.run(linear(precision, 21, 72, 40, COMNECK_NONE, true), 2).launches[COMNECK_CUDA_TENSOR_GEMM], 1);
  }
  const Case exact = convolution(COMNECK_PRECISION_F32, false, 24, 16, 3, 1, COMNECK_DIRECT, COMNECK_RELU);
  const Result result = vendor.run(exact, 2);
  CHECK_EQ(result.launches[COMNECK_CUDA_CANONICAL_CONVOLUTION], 1);
  check_same(result, own.run(exact, 2));
}

void check_absent(const Runtime &runtime, const Fake &cublaslt, const Fake &cudnn) {
  const Machine own(runtime);
  const auto check_ours = [&](const Machine &machine, const Case &c, const char *why) {
    if (machine.text.find(why) == std::string::npos) std::fprintf(stderr, "'%s' does not say '%s'\n", machine.text.c_str(), why);
    CHECK(machine.text.find(why) != std::string::npos);
    const Result result = machine.run(c, 2);
    CHECK_EQ(ours(result), 1);
    check_same(result, own.run(c, 2));
  };
  const auto check_library = [&](int32_t library, const Fake &fake, const Case &c, const char *name, const char *variable,
                                 const char *version, const char *other, const char *unusable) {
    check_ours(Machine(runtime, library, "/nowhere/lib.so.13"), c, "/nowhere/lib.so.13");
    check_ours(Machine(runtime, library, "libdl.so.2"), c, (std::string("it has no function ") + name).c_str());
    check_ours(Machine(runtime, library, nullptr), c, ": the emulation takes a library by its path only");
    CHECK_EQ(setenv(variable, version, 1), 0);
    check_ours(Machine(runtime, library, fake.path), c, other);
    CHECK_EQ(unsetenv(variable), 0);
    fake.inject(kCreate, 0);
    check_ours(Machine(runtime, library, fake.path), c, unusable);
    fake.inject(-1, 0);
    const Machine twice(runtime, library, fake.path);
    char text[64];
    CHECK_EQ(runtime.cuda_library(twice.context, library, fake.path, text, sizeof text), COMNECK_MISUSE);
    CHECK_EQ(runtime.cuda_library(nullptr, library, fake.path, text, sizeof text), COMNECK_MISUSE);
    CHECK_EQ(runtime.cuda_library(own.context, library, fake.path, text, 0), COMNECK_MISUSE);
  };
  check_library(COMNECK_CUDA_LIBRARY_CUBLASLT, cublaslt, linear(COMNECK_PRECISION_BF16, 21, 72, 40, COMNECK_NONE, true),
                "cublasLt", "COMNECK_FAKE_CUBLASLT_VERSION", "111103", "version 11.11.3 is not one of 12 and 13",
                "version 13.1.1 cannot be used here: its status 1");
  check_library(COMNECK_CUDA_LIBRARY_CUDNN, cudnn, convolution(COMNECK_PRECISION_BF16, true, 24, 16, 3, 1, COMNECK_DIRECT, COMNECK_RELU),
                "cudnn", "COMNECK_FAKE_CUDNN_VERSION", "8907", "version 0.89.7 is not 9",
                "version 9.19.0 cannot be used here: its status 1001");
  char text[64];
  CHECK_EQ(runtime.cuda_library(own.context, 2, nullptr, text, sizeof text), COMNECK_MISUSE);
}

// Each of these calls fails, the last ones of them when the plan is sealed: our kernel's result.
void check_replaced(const Machine &vendor, const Machine &own, const Fake &fake, const Case &c, std::initializer_list<int32_t> functions) {
  const Result reference = own.run(c, 3);
  for (const int32_t function : functions) {
    fake.inject(function, 0);
    const Result result = vendor.run(c, 3);
    fake.inject(-1, 0);
    CHECK_EQ(result.status, COMNECK_OK);
    CHECK_EQ(ours(result), 1);
    check_same(result, reference);
  }
}

// Every CUDA call of a plan's life fails once: a status, or our kernel in the library's place.
void check_cuda_failures(const Machine &vendor, const Case &c, int32_t theirs) {
  const Result whole = vendor.run(c, 1);
  for (int32_t call = 0; call < 4; call++) {
    const int64_t first = vendor.api.count(call);
    (void)vendor.run(c, 1);
    const int64_t calls = vendor.api.count(call) - first;
    for (int32_t after = 1; after < calls; after++) {  // not the layer's, which is checked elsewhere
      vendor.api.inject(call, after, 719, 0);
      const Result result = vendor.run(c, 1);
      vendor.api.inject(0, 0, 0, 0);
      if (result.sealed != COMNECK_OK || result.status != COMNECK_OK) continue;
      CHECK_EQ(ours(result) + of_kind(result, theirs), 1);
      if (of_kind(result, theirs) == 1) check_same(result, whole);
    }
  }
  check_same(vendor.run(c, 1), whole);
}

// What worked when the plan was sealed and fails later is a status: while it is captured, and when it is queued after that.
void check_late(const Machine &vendor, const Fake &fake, int32_t function, int32_t after, const Case &c) {
  const Result whole = vendor.run(c, 3);
  fake.inject(function, after);
  const Result late = vendor.run(c, 3);
  fake.inject(-1, 0);
  CHECK_EQ(late.sealed, COMNECK_OK);
  CHECK(late.status != COMNECK_OK);
  check_same(vendor.run(c, 3), whole);
}

void check_failures(const Runtime &runtime, const Fake &cublaslt, const Fake &cudnn) {
  const Machine own(runtime);
  Machine linear_vendor(runtime, COMNECK_CUDA_LIBRARY_CUBLASLT, cublaslt.path), vendor(runtime, COMNECK_CUDA_LIBRARY_CUDNN, cudnn.path);
  linear_vendor.faults = vendor.faults = true;
  const Case product = linear(COMNECK_PRECISION_F16, 22, 72, 40, COMNECK_RELU, true);
  check_replaced(linear_vendor, own, cublaslt, product, {kDescCreate, kHeuristic, kMatmul});
  check_late(linear_vendor, cublaslt, kMatmul, 1, product);
  check_cuda_failures(linear_vendor, product, COMNECK_CUDA_CUBLASLT);
  // An algorithm that does no batch does one image after the other.
  const Result whole = linear_vendor.run(product, 3);
  cublaslt.inject(kCheck, 0);
  const int64_t before = cublaslt.count(kMatmul);
  const Result apart = linear_vendor.run(product, 3);
  cublaslt.inject(-1, 0);
  CHECK_EQ(cublaslt.count(kMatmul) - before, 2 * 3);  // tried, and captured
  check_same(apart, whole);

  const Case direct = convolution(COMNECK_PRECISION_BF16, true, 24, 16, 3, 1, COMNECK_DIRECT, COMNECK_RELU);
  const Case transposed = convolution(COMNECK_PRECISION_BF16, false, 8, 16, 5, 2, COMNECK_TRANSPOSED, COMNECK_NONE);
  check_replaced(vendor, own, cudnn, direct, {kDescriptor, kAlgorithms, kConvolve});
  check_replaced(vendor, own, cudnn, transposed, {kDescriptor, kAlgorithms, kConvolve, kAdd});
  check_late(vendor, cudnn, kConvolve, 3, direct);
  check_late(vendor, cudnn, kAdd, 4, transposed);
  check_cuda_failures(vendor, direct, COMNECK_CUDA_CUDNN);
  check_cuda_failures(vendor, transposed, COMNECK_CUDA_CUDNN);
}

// The layers of ViT-L/14 and of ELIC's transforms on a device. What a library does not do is ours and no failure; what it does is checked.
int check_device(const Runtime &runtime) {
  const Machine own(runtime), gemm(runtime, COMNECK_CUDA_LIBRARY_CUBLASLT), conv(runtime, COMNECK_CUDA_LIBRARY_CUDNN);
  std::printf("%s\n%s\n", gemm.text.c_str(), conv.text.c_str());
  int64_t theirs = 0;
  const auto check = [&](const Machine &machine, const Case &c, int32_t kind, double tolerance) {
    const Result result = machine.run(c, 3);
    CHECK_EQ(result.status, COMNECK_OK);
    check_near(result.values, own.run(c, 3).values, tolerance);
    check_batches(machine, c, kind);
    const comneck_convolution &g = c.geometry;
    std::printf("%d x %d positions, %d to %d channels, %dx%d, stride %d%s, types %d to %d, function %d: %s\n", c.height, c.width, g.input_channels,
                g.output_channels, g.kernel_height, g.kernel_width, g.stride, g.kind == COMNECK_TRANSPOSED ? ", transposed" : "", c.source_type,
                c.destination_type, c.function, of_kind(result, kind) == 1 ? "theirs" : "ours");
    theirs += of_kind(result, kind);
  };
  for (const int32_t precision : {int32_t{COMNECK_PRECISION_BF16}, int32_t{COMNECK_PRECISION_F16}}) {
    const double halves = precision == COMNECK_PRECISION_BF16 ? 0.012 : 0.0015;
    for (const int32_t rows : {1, 64, 257, 577}) {
      check(gemm, linear(precision, rows, 1024, 3072, COMNECK_NONE, false), COMNECK_CUDA_CUBLASLT, halves);
      check(gemm, linear(precision, rows, 1024, 1024, COMNECK_NONE, true), COMNECK_CUDA_CUBLASLT, 3e-5);
      check(gemm, linear(precision, rows, 4096, 1024, COMNECK_NONE, true), COMNECK_CUDA_CUBLASLT, 3e-5);
      check(gemm, linear(precision, rows, 96, 192, COMNECK_RELU, true), COMNECK_CUDA_CUBLASLT, 3e-5);
    }
    for (const bool narrow : {false, true}) {
      const double rounding = precision == COMNECK_PRECISION_BF16 ? 0.03 : 0.005;
      check(conv, convolution(precision, narrow, 96, 96, 3, 1, COMNECK_DIRECT, COMNECK_RELU), COMNECK_CUDA_CUDNN, rounding);
      check(conv, convolution(precision, narrow, 3, 192, 5, 2, COMNECK_DIRECT, COMNECK_NONE), COMNECK_CUDA_CUDNN, rounding);
      check(conv, convolution(precision, narrow, 192, 192, 5, 2, COMNECK_DIRECT, COMNECK_NONE), COMNECK_CUDA_CUDNN, rounding);
      check(conv, convolution(precision, narrow, 192, 192, 5, 2, COMNECK_TRANSPOSED, COMNECK_NONE), COMNECK_CUDA_CUDNN, rounding);
      check(conv, convolution(precision, narrow, 192, 3, 5, 2, COMNECK_TRANSPOSED, COMNECK_NONE), COMNECK_CUDA_CUDNN, rounding);
    }
  }
  std::printf("%lld layers by a library\n", static_cast<long long>(theirs));
  return theirs > 0 ? 0 : 77;  // nothing was tested: no library, or none that does any of it
}

}  // namespace

int main(int argc, char **argv) {
  if (argc == 2) return check_device(Runtime(argv[1]));
  if (argc != 4) {
    std::fprintf(stderr, "usage: vendor_test libcomneck_cuda_emulated.so libemulated_cublaslt.so libemulated_cudnn.so\n       vendor_test libcomneck_cuda.so\n");
    return 2;
  }
  const Runtime runtime(argv[1]);
  const Fake cublaslt(argv[2], "cublaslt"), cudnn(argv[3], "cudnn");
  check_linear(runtime, cublaslt);
  check_convolutions(runtime, cudnn);
  check_absent(runtime, cublaslt, cudnn);
  check_failures(runtime, cublaslt, cudnn);
  return 0;
}
