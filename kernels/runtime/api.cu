// The C functions of contexts, layers and plans, on a device. Relations between views are checked once more in Java
// (org.comneck.backend.StepChecks); here every view is checked to lie inside the plan's memory, and what a kernel relies on.
#include <algorithm>
#include <cstring>
#include <memory>

#include "backend/bits.h"
#include "canonical_attention/canonical_attention.h"
#include "canonical_norm/canonical_norm.h"
#include "comneck_cuda.h"
#include "elementwise/elementwise.h"
#include "entropy/api.h"
#include "fused_attention/fused_attention.h"
#include "hopper.h"
#include "row_norm/row_norm.h"
#include "resample/resample.h"
#include "runtime/plan.h"
#include "tensor_conv/tensor_conv.h"
#include "tensor_gemm/tensor_gemm.h"

using namespace comneck;
using namespace comneck::cuda;

namespace {

Side side_of(const Queue &queue, const comneck_view &view) {
  return {queue.memory + view.offset_bytes + view.channel_offset * element_bytes_of(view.type), view.channel_stride, view.type};
}

// The same with an offset in place of an address. Memory begins at a multiple of 256: as good for whether rows are aligned.
Side side_in_plan(const comneck_view &view) {
  const int64_t offset = view.offset_bytes + view.channel_offset * element_bytes_of(view.type);
  return {reinterpret_cast<const void *>(static_cast<uintptr_t>(offset)), view.channel_stride, view.type};
}

template <class T>
T *data_of(const Queue &queue, const comneck_view &view) {
  return reinterpret_cast<T *>(queue.memory + view.offset_bytes) + view.channel_offset;
}

const float *floats_at(const Queue &queue, int64_t offset) { return reinterpret_cast<const float *>(queue.constants + offset); }

Extent extent_of(const comneck_view &view) { return {positions_of(view) * view.images, view.channels}; }

int32_t check_values(comneck_plan &plan, const comneck_view *view, const char *name) {
  const bool f16 = view != nullptr && view->type == COMNECK_F16;
  return plan.check(view, name, COMNECK_F32, f16 ? COMNECK_F16 : COMNECK_BF16);
}

int32_t check_norm(const comneck_view &source, const float *weight, int64_t weight_bytes, const float *bias, int64_t bias_bytes) {
  const int64_t bytes = int64_t{source.channels} * 4;
  if (weight != nullptr && bias != nullptr && weight_bytes == bytes && bias_bytes == bytes) return COMNECK_OK;
  return fail(COMNECK_MISUSE, "a LayerNorm of %d channels without weight or bias of that size", source.channels);
}

int32_t check_embedding(comneck_plan &plan, const comneck_view *source, const float *class_token, int64_t class_token_bytes,
                        const float *positions, int64_t positions_bytes, const comneck_view *destination) {
  COMNECK_CHECK(check_values(plan, source, "the source"));
  COMNECK_CHECK(check_values(plan, destination, "the destination"));
  COMNECK_CHECK(check_tokens(*source, *destination));
  const int64_t shift = class_token == nullptr ? 0 : 1;
  const int64_t bytes = int64_t{source->channels} * 4;
  const int64_t tokens = positions_of(*source) + shift;
  if (source->channels == destination->channels && positions_of(*destination) == tokens && class_token_bytes == shift * bytes &&
      positions != nullptr && positions_bytes == tokens * bytes) {
    return COMNECK_OK;
  }
  return fail(COMNECK_MISUSE, "%s does not become %s with a table of %lld bytes", ViewText(*source).text, ViewText(*destination).text,
              static_cast<long long>(positions_bytes));
}

int32_t no_plan() { return fail(COMNECK_MISUSE, "no plan"); }

std::vector<float> as_floats(const void *data, int64_t bytes, int32_t type) {
  std::vector<float> values(static_cast<size_t>(bytes / element_bytes_of(type)));
  if (type == COMNECK_F32) {
    if (bytes > 0) std::memcpy(values.data(), data, static_cast<size_t>(bytes));
    return values;
  }
  for (size_t i = 0; i < values.size(); i++) {
    uint16_t half;
    std::memcpy(&half, static_cast<const char *>(data) + 2 * i, 2);
    values[i] = type == COMNECK_BF16 ? from_bf16(half) : from_f16(half);
  }
  return values;
}

// A linear layer, on positions or on patches side by side: what tensor_gemm computes.
bool is_patches(const comneck_convolution &g) {
  return g.kind == COMNECK_DIRECT && g.kernel_height == g.stride && g.kernel_width == g.stride && g.padding == 0;
}

// OIHW as tensor_gemm reads patches: lines of positions of channels.
std::vector<float> as_patches(const comneck_convolution &g, const std::vector<float> &weights) {
  const int64_t taps = int64_t{g.kernel_height} * g.kernel_width;
  std::vector<float> lines(weights.size());
  for (size_t i = 0; i < weights.size(); i++) {
    const auto at = static_cast<int64_t>(i);
    const int64_t tap = at % taps, channel = at / taps % g.input_channels, output = at / taps / g.input_channels;
    lines[static_cast<size_t>((output * taps + tap) * g.input_channels + channel)] = weights[i];
  }
  return lines;
}

// What tensor cores multiply in a layer of this precision; F32: nothing.
int32_t tensor_type_of(int32_t precision) {
  return precision == COMNECK_PRECISION_BF16 ? COMNECK_BF16 : precision == COMNECK_PRECISION_F16 ? COMNECK_F16 : COMNECK_F32;
}

// The canonical kernel's weights [tap][input channel][column]: the layer's own, or made of those for the tensor cores, which are [output][inputs]
// of the one phase, or [phase][output][tap of the phase][input channel].
int32_t canonical_weights(const comneck_layer &layer, const float **weights) {
  const std::scoped_lock lock(layer.making);
  if (layer.weights == nullptr) {
    const comneck_convolution &g = layer.packed.geometry;
    const bool linear = layer.tensor_weights != nullptr;
    const auto taps = static_cast<int64_t>(layer.packed.taps.size());
    const int64_t depth = linear ? gemm_depth(taps * g.input_channels) : taps * g.input_channels;
    std::vector<uint16_t> packed(static_cast<size_t>(depth * g.output_channels));
    COMNECK_CHECK(check_cuda(cudaSetDevice(layer.context->device), "choosing the device"));
    COMNECK_CHECK(check_cuda(cudaMemcpyAsync(packed.data(), linear ? layer.tensor_weights : layer.conv_weights, packed.size() * 2, cudaMemcpyDeviceToHost, nullptr),
                             "reading a layer"));
    COMNECK_CHECK(check_cuda(cudaStreamSynchronize(nullptr), "reading a layer"));
    std::vector<float> canonical(static_cast<size_t>(taps * g.input_channels * layer.packed.columns), 0.0f);
    for (const ConvPhase &phase : layer.packed.phases) {
      const int64_t from = int64_t{phase.first_tap} * g.input_channels * g.output_channels;
      const int64_t row = linear ? depth : int64_t{phase.taps} * g.input_channels;
      for (int64_t o = 0; o < g.output_channels; o++) {
        for (int64_t k = 0; k < int64_t{phase.taps} * g.input_channels; k++) {
          const uint16_t half = packed[static_cast<size_t>(from + o * row + k)];
          canonical[static_cast<size_t>((int64_t{phase.first_tap} * g.input_channels + k) * layer.packed.columns + o)] =
              layer.tensor_type == COMNECK_BF16 ? from_bf16(half) : from_f16(half);
        }
      }
    }
    const auto bytes = static_cast<int64_t>(canonical.size() * sizeof(float));
    COMNECK_CHECK(layer.canonical_memory.allocate(bytes));
    COMNECK_CHECK(check_cuda(cudaMemcpyAsync(layer.canonical_memory.data(), canonical.data(), static_cast<size_t>(bytes), cudaMemcpyHostToDevice, nullptr),
                             "uploading a layer"));
    COMNECK_CHECK(check_cuda(cudaStreamSynchronize(nullptr), "uploading a layer"));
    layer.weights = reinterpret_cast<const float *>(layer.canonical_memory.data());
  }
  *weights = layer.weights;
  return COMNECK_OK;
}

bool is_float(int32_t type) { return type == COMNECK_F32 || type == COMNECK_BF16 || type == COMNECK_F16; }

}  // namespace

// -------------------------------------------------------------------------------------------------------------- contexts and layers

int32_t comneck_cuda_probe(int32_t device, int32_t *cause, char *text, int64_t text_bytes) {
  if (cause == nullptr || text == nullptr || text_bytes < 1) return fail(COMNECK_MISUSE, "no room for the answer");
  const DeviceInfo info = probe(device);
  *cause = info.cause;
  std::snprintf(text, static_cast<size_t>(text_bytes), "%s", info.text);
  return COMNECK_OK;
}

int32_t comneck_context_create(int32_t device, int32_t isa, comneck_context **context) {
  return guarded([&]() -> int32_t {
    if (context == nullptr || isa < COMNECK_CUDA_ISA_AUTO || isa > COMNECK_CUDA_ISA_SM90A) {
      return fail(COMNECK_MISUSE, "no place for the context, or %d for its instructions", isa);
    }
    const DeviceInfo info = probe(device);
    if (info.cause != COMNECK_CUDA_AVAILABLE) return fail(COMNECK_UNSUPPORTED, "%s", info.text);
    auto made = std::make_unique<comneck_context>(device, info);
    if (isa == COMNECK_CUDA_ISA_SM90A) {
      if (const int32_t status = check_cuda(cudaSetDevice(device), "choosing the device"); status != COMNECK_OK) return status;
      if (!has_wgmma()) return fail(COMNECK_UNSUPPORTED, "sm_90a's instructions take compute capability 9.0 and a library built for sm_90a: %s", info.text);
      made->attention = AttentionKernel::kWgmma;
      made->gemm = GemmTile::kWgmma;
    }
    *context = made.release();
    return COMNECK_OK;
  });
}

int32_t comneck_context_describe(const comneck_context *context, char *text, int64_t text_bytes) {
  if (context == nullptr || text == nullptr || text_bytes < 1) return fail(COMNECK_MISUSE, "no context or no room for its text");
  std::snprintf(text, static_cast<size_t>(text_bytes), "%s%s", context->info.text,
                context->attention == AttentionKernel::kMma ? "" : ", wgmma");
  return COMNECK_OK;
}

int32_t comneck_cuda_library(comneck_context *context, int32_t library, const char *path, char *text, int64_t text_bytes) {
  return guarded([&]() -> int32_t {
    const bool linear = library == COMNECK_CUDA_LIBRARY_CUBLASLT;
    if (context == nullptr || (!linear && library != COMNECK_CUDA_LIBRARY_CUDNN) || text == nullptr || text_bytes < 1 ||
        (linear ? context->cublaslt != nullptr : context->cudnn != nullptr)) {
      return fail(COMNECK_MISUSE, "no context that could open library %d, or for the second time, or no room for the answer", library);
    }
    if (const int32_t status = check_cuda(cudaSetDevice(context->device), "choosing the device"); status != COMNECK_OK) return status;
    std::string answer;
    if (linear) {
      context->cublaslt = CublasLt::open(path, &answer);
    } else {
      context->cudnn = Cudnn::open(path, &answer);
    }
    const bool opened = linear ? context->cublaslt != nullptr : context->cudnn != nullptr;
    std::snprintf(text, static_cast<size_t>(text_bytes), "%s%s%s", linear ? "cuBLASLt" : "cuDNN", opened ? " " : ": ", answer.c_str());
    return COMNECK_OK;
  });
}

void comneck_context_destroy(comneck_context *context) {
  if (context != nullptr) (void)cudaSetDevice(context->device);  // the libraries' handles are its
  delete context;
}

int32_t comneck_layer_create(comneck_context *context, const comneck_convolution *geometry, const void *weight, int64_t weight_bytes,
                             int32_t weight_type, const void *bias, int64_t bias_bytes, int32_t bias_type, comneck_layer **layer) {
  return guarded([&]() -> int32_t {
    if (context == nullptr || geometry == nullptr || layer == nullptr || weight == nullptr) return fail(COMNECK_MISUSE, "a layer without its parts");
    const comneck_convolution &g = *geometry;
    constexpr int32_t kMost = 1 << 20;
    if (g.input_channels < 1 || g.input_channels > kMost || g.output_channels < 1 || g.output_channels > kMost || g.kernel_height < 1 ||
        g.kernel_width < 1 || g.kernel_height > 64 || g.kernel_width > 64 || g.stride < 1 || g.stride > 4096 || g.padding < 0 ||
        g.padding > 4096 || g.kind < COMNECK_DIRECT || g.kind > COMNECK_TRANSPOSED || (g.kind == COMNECK_CHECKERBOARD && g.stride != 1) ||
        g.precision < COMNECK_PRECISION_F32 || g.precision > COMNECK_PRECISION_F16 ||
        (g.kind == COMNECK_TRANSPOSED &&
         (g.stride > 16 || g.stride + 2 * g.padding < g.kernel_height || g.stride + 2 * g.padding < g.kernel_width))) {
      return fail(COMNECK_MISUSE, "a layer of %d to %d channels, %dx%d taps, stride %d, padding %d, kind %d, precision %d", g.input_channels,
                  g.output_channels, g.kernel_height, g.kernel_width, g.stride, g.padding, g.kind, g.precision);
    }
    const int64_t elements = int64_t{g.input_channels} * g.output_channels * g.kernel_height * g.kernel_width;
    if (!is_float(weight_type) || weight_bytes != elements * element_bytes_of(weight_type) ||
        (bias != nullptr && (!is_float(bias_type) || bias_bytes != g.output_channels * element_bytes_of(bias_type)))) {
      return fail(COMNECK_MISUSE, "%lld bytes of weights and %lld of bias for a layer of %lld elements", static_cast<long long>(weight_bytes),
                  static_cast<long long>(bias_bytes), static_cast<long long>(elements));
    }
    auto made = std::make_unique<comneck_layer>();
    made->context = context;
    const std::vector<float> weights = as_floats(weight, weight_bytes, weight_type);
    std::vector<float> biases = bias == nullptr ? std::vector<float>() : as_floats(bias, bias_bytes, bias_type);
    made->packed = pack_layer(g, weights.data(), bias == nullptr ? nullptr : biases.data());
    ConvLayer &packed = made->packed;

    // Tensor cores take one source on the destination's grid. What else there is takes the canonical kernel, whose weights are made of these when a
    // step first asks for them (canonical_weights): networks have none.
    std::vector<uint16_t> tensor_weights;
    const int64_t inputs = int64_t{g.input_channels} * g.kernel_height * g.kernel_width;
    made->tensor_type = tensor_type_of(g.precision);
    if (g.precision != COMNECK_PRECISION_F32 && is_patches(g) && inputs <= kMostGemmInputs) {
      tensor_weights = pack_gemm_weights(as_patches(g, weights).data(), g.output_channels, inputs, made->tensor_type);
    } else if (g.precision != COMNECK_PRECISION_F32) {
      tensor_weights = pack_conv_weights(packed, made->tensor_type);
    }

    // For vendor's libraries, which the context has opened by now.
    const bool convolves = context->cudnn != nullptr && Cudnn::takes(g);
    std::vector<uint16_t> tensor_bias, cudnn_halves;
    std::vector<float> cudnn_floats;
    if (convolves || (!tensor_weights.empty() && context->cublaslt != nullptr)) {
      biases.resize(static_cast<size_t>(g.output_channels));
      tensor_bias = pack_gemm_weights(biases.data(), 1, g.output_channels, made->tensor_type);
    }
    if (convolves) {
      cudnn_floats = pack_cudnn_weights(g, weights);
      for (const float w : cudnn_floats) cudnn_halves.push_back(made->tensor_type == COMNECK_BF16 ? to_bf16(w) : to_f16(w));
    }

    if (!tensor_weights.empty()) packed.weights = {};
    // weights | bias | taps | phases | weights for the tensor cores | a vendor's bias, weights in halves, in floats
    const auto bytes_of = [](const auto &values) { return static_cast<int64_t>((values.size() * sizeof(values[0]) + 255) / 256 * 256); };
    const int64_t at_bias = bytes_of(packed.weights);
    const int64_t at_taps = at_bias + bytes_of(packed.bias);
    const int64_t at_phases = at_taps + bytes_of(packed.taps);
    if (const int32_t status = check_cuda(cudaSetDevice(context->device), "choosing the device"); status != COMNECK_OK) return status;
    const int64_t at_tensor_weights = at_phases + bytes_of(packed.phases);
    const int64_t at_tensor_bias = at_tensor_weights + bytes_of(tensor_weights);
    const int64_t at_halves = at_tensor_bias + bytes_of(tensor_bias);
    const int64_t at_floats = at_halves + bytes_of(cudnn_halves);
    if (const int32_t status = made->memory.allocate(at_floats + bytes_of(cudnn_floats)); status != COMNECK_OK) return status;
    char *memory = made->memory.data();
    const auto upload = [&](int64_t offset, const auto &values) {
      return values.empty() ? cudaSuccess
                            : cudaMemcpyAsync(memory + offset, values.data(), values.size() * sizeof(values[0]), cudaMemcpyHostToDevice, nullptr);
    };
    for (const cudaError_t error : {upload(0, packed.weights), upload(at_bias, packed.bias), upload(at_taps, packed.taps),
                                    upload(at_phases, packed.phases), upload(at_tensor_weights, tensor_weights), upload(at_tensor_bias, tensor_bias),
                                    upload(at_halves, cudnn_halves), upload(at_floats, cudnn_floats), cudaStreamSynchronize(nullptr)}) {
      if (const int32_t status = check_cuda(error, "uploading a layer"); status != COMNECK_OK) return status;
    }
    if (!packed.weights.empty()) made->weights = reinterpret_cast<const float *>(memory);
    made->bias = reinterpret_cast<const float *>(memory + at_bias);
    made->taps = reinterpret_cast<const ConvTap *>(memory + at_taps);
    made->phases = reinterpret_cast<const ConvPhase *>(memory + at_phases);
    if (!tensor_weights.empty()) (is_patches(g) ? made->tensor_weights : made->conv_weights) = reinterpret_cast<const uint16_t *>(memory + at_tensor_weights);
    if (!tensor_bias.empty()) made->tensor_bias = reinterpret_cast<const uint16_t *>(memory + at_tensor_bias);
    if (convolves) {
      made->cudnn_halves = reinterpret_cast<const uint16_t *>(memory + at_halves);
      made->cudnn_floats = reinterpret_cast<const float *>(memory + at_floats);
    }
    packed.weights = {};
    packed.bias = {};
    *layer = made.release();
    return COMNECK_OK;
  });
}

int32_t comneck_layer_bytes(const comneck_layer *layer, int64_t *bytes) {
  if (layer == nullptr || bytes == nullptr) return fail(COMNECK_MISUSE, "no layer");
  const std::scoped_lock lock(layer->making);
  *bytes = layer->memory.bytes() + layer->canonical_memory.bytes();
  return COMNECK_OK;
}

void comneck_layer_destroy(comneck_layer *layer) { delete layer; }

// ---------------------------------------------------------------------------------------------------------------------------- plans

int32_t comneck_plan_create(comneck_context *context, comneck_plan **plan) {
  return guarded([&]() -> int32_t {
    if (context == nullptr || plan == nullptr) return fail(COMNECK_MISUSE, "no context");
    *plan = new comneck_plan(context);
    return COMNECK_OK;
  });
}

int32_t comneck_plan_stage(comneck_plan *plan, int32_t *stage) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr || stage == nullptr || plan->sealed) return fail(COMNECK_MISUSE, "no plan that could take a stage");
    plan->nanos.push_back(0);
    *stage = static_cast<int32_t>(plan->nanos.size()) - 1;
    return COMNECK_OK;
  });
}

int32_t comneck_plan_port(comneck_plan *plan, int64_t offset_bytes, int64_t bytes, int32_t direction) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr || plan->sealed || offset_bytes < 0 || bytes < 0 || direction < COMNECK_INPUT ||
        direction > (COMNECK_INPUT | COMNECK_OUTPUT)) {
      return fail(COMNECK_MISUSE, "a port of %lld bytes at %lld, direction %d, or a sealed plan", static_cast<long long>(bytes),
                  static_cast<long long>(offset_bytes), direction);
    }
    plan->ports.push_back({offset_bytes, bytes, direction, 0});
    return COMNECK_OK;
  });
}

int32_t comneck_plan_port_memory(const comneck_plan *plan, int64_t offset_bytes, void **memory) {
  if (plan == nullptr || !plan->sealed || memory == nullptr) return fail(COMNECK_MISUSE, "no sealed plan");
  for (const comneck_plan::Port &port : plan->ports) {
    if (port.offset == offset_bytes) {
      *memory = plan->port_staging.data() + port.host;
      return COMNECK_OK;
    }
  }
  return fail(COMNECK_MISUSE, "no port at %lld", static_cast<long long>(offset_bytes));
}

int32_t comneck_plan_seal(comneck_plan *plan, int64_t memory_bytes, void **memory) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr || memory == nullptr) return no_plan();
    *memory = nullptr;
    return plan->seal(memory_bytes);
  });
}

int32_t comneck_plan_bytes(const comneck_plan *plan, int64_t *bytes) {
  if (plan == nullptr || bytes == nullptr) return no_plan();
  *bytes = plan->memory.bytes() + plan->workspace.bytes() + plan->constant_memory.bytes() + plan->coded.bytes() + plan->indices.bytes() + plan->payload_memory.bytes() +
           plan->encoded.bytes() + plan->encode_scratch.bytes();
  return COMNECK_OK;
}

int32_t comneck_plan_execute(comneck_plan *plan) {
  return guarded([&]() -> int32_t { return plan == nullptr ? no_plan() : plan->execute(); });
}

int32_t comneck_plan_nanos(const comneck_plan *plan, int64_t *nanos, int64_t count) {
  if (plan == nullptr || count < 0 || (nanos == nullptr && count > 0)) return fail(COMNECK_MISUSE, "%lld stages", static_cast<long long>(count));
  std::copy_n(plan->nanos.begin(), std::min(count, static_cast<int64_t>(plan->nanos.size())), nanos);
  return COMNECK_OK;
}

int32_t comneck_cuda_plan_launches(const comneck_plan *plan, int64_t *launches, int64_t count) {
  if (plan == nullptr || count < 0 || (launches == nullptr && count > 0)) return fail(COMNECK_MISUSE, "%lld kinds of kernels", static_cast<long long>(count));
  std::fill_n(launches, count, 0);
  for (const comneck_plan::Entry &step : plan->steps) {
    if (step.kind < count) launches[step.kind]++;
  }
  return COMNECK_OK;
}

void comneck_plan_destroy(comneck_plan *plan) { delete plan; }

// ---------------------------------------------------------------------------------------------------------------------------- steps

int32_t comneck_plan_convolution(comneck_plan *plan, const comneck_layer *layer, const comneck_view *sources, int32_t source_count,
                                 const comneck_view *residual, int32_t function, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr || layer == nullptr || destination == nullptr || sources == nullptr) {
      return fail(COMNECK_MISUSE, "a convolution without its parts");
    }
    const comneck_convolution &g = layer->packed.geometry;
    if (layer->context != plan->context) return fail(COMNECK_MISUSE, "the layer belongs to another context");
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    if (residual != nullptr) {
      COMNECK_CHECK(check_values(*plan, residual, "the residual"));
      COMNECK_CHECK(check_same(*residual, *destination));
    }
    const bool pointwise = g.kernel_height == 1 && g.kernel_width == 1 && g.stride == 1 && g.padding == 0;
    std::vector<comneck_view> present;
    std::vector<int32_t> first;
    int32_t channels = 0;
    for (int32_t i = 0; i < source_count; i++) {
      const comneck_view &view = sources[i];
      if (view.channels < 1) return fail(COMNECK_MISUSE, "source %d of %d channels", i, view.channels);
      if (view.channel_stride != 0) {
        COMNECK_CHECK(check_values(*plan, &view, "a source"));
        const bool fits = view.images == destination->images && (present.empty() || (view.height == present[0].height && view.width == present[0].width)) &&
                          (view.grid == COMNECK_FULL || (pointwise && view.grid == destination->grid));
        if (!fits || overlap(view, *destination)) return fail(COMNECK_MISUSE, "source %d is %s, the destination %s", i, ViewText(view).text, ViewText(*destination).text);
        present.push_back(view);
        first.push_back(channels);
      }
      channels += view.channels;
    }
    if (present.empty() || present.size() > kMostSources || channels != g.input_channels || destination->channels != g.output_channels) {
      return fail(COMNECK_MISUSE, "%d channels of %d sources to %s by a layer of %d to %d", channels, source_count,
                  ViewText(*destination).text, g.input_channels, g.output_channels);
    }
    const int32_t tall = present[0].height, wide = present[0].width;
    const bool transposed = g.kind == COMNECK_TRANSPOSED;
    const int32_t height = transposed ? tall * g.stride : (tall + 2 * g.padding - g.kernel_height) / g.stride + 1;
    const int32_t width = transposed ? wide * g.stride : (wide + 2 * g.padding - g.kernel_width) / g.stride + 1;
    if (height != destination->height || width != destination->width ||
        (destination->grid != COMNECK_FULL && (g.stride != 1 || height != tall || width != wide))) {
      return fail(COMNECK_MISUSE, "the layer makes %dx%d of %dx%d, the destination is %s", height, width, tall, wide,
                  ViewText(*destination).text);
    }
    const auto multiplies = [&](const comneck_view &view) { return view.type == COMNECK_F32 || view.type == layer->tensor_type; };
    if (layer->tensor_weights != nullptr && present.size() == 1 && present[0].channels == g.input_channels &&
        present[0].grid == destination->grid && multiplies(present[0]) && multiplies(*destination) &&
        (residual == nullptr || multiplies(*residual)) &&
        (pointwise || (destination->grid == COMNECK_FULL && present[0].channel_stride == g.input_channels))) {
      GemmCall product{};
      product.weights = layer->tensor_weights;
      product.bias = layer->bias;
      product.rows = positions_of(*destination) * destination->images;
      product.inputs = g.input_channels * g.kernel_height * g.kernel_width;
      if (!pointwise) {
        const int64_t line = int64_t{wide} * g.input_channels;
        product.patches = {g.kernel_width * g.input_channels, height, width, line, line * g.stride, line * tall};
      }
      product.outputs = g.output_channels;
      product.type = layer->tensor_type;
      product.function = function;
      const auto addressed = [product, from = present[0], to = *destination, has_residual = residual != nullptr,
                              added = residual != nullptr ? *residual : comneck_view{}](const Queue &queue) {
        GemmCall call = product;
        call.source = side_of(queue, from);
        if (has_residual) call.residual = side_of(queue, added);
        call.destination = side_of(queue, to);
        return call;
      };
      COMNECK_CHECK(plan->add(COMNECK_CUDA_TENSOR_GEMM, [addressed, tile = plan->context->gemm](const Queue &queue) {
        return tensor_gemm(addressed(queue), tile, queue.multiprocessors, queue.stream);
      }));
      if (layer->tensor_bias != nullptr && plan->context->cublaslt != nullptr && pointwise) {
        COMNECK_CHECK(check_cuda(cudaSetDevice(plan->context->device), "choosing the device"));
        product.source = side_in_plan(present[0]);
        product.destination = side_in_plan(*destination);
        if (residual != nullptr) product.residual = side_in_plan(*residual);
        const void *bias = destination->type == COMNECK_F32 ? static_cast<const void *>(layer->bias) : layer->tensor_bias;
        const auto vendor = plan->context->cublaslt->prepare(product, destination->images, bias);
        if (vendor != nullptr) {
          plan->replace_last(COMNECK_CUDA_CUBLASLT, [addressed, vendor](const Queue &queue) {
            return vendor->queue(addressed(queue), queue.workspace, queue.stream);
          }, vendor->workspace_bytes());
        }
      }
      return COMNECK_OK;
    }
    // Our step was added: cuDNN's in its place, where that takes the layer.
    const auto to_cudnn = [&] {
      const comneck_view &source = present[0];
      const bool one_type = source.type == destination->type && (source.type == COMNECK_F32 || source.type == layer->tensor_type);
      if (layer->cudnn_floats != nullptr && present.size() == 1 && source.channels == g.input_channels && source.grid == COMNECK_FULL &&
          destination->grid == COMNECK_FULL && residual == nullptr && one_type && cudaSetDevice(plan->context->device) == cudaSuccess) {
        const bool floats = source.type == COMNECK_F32;
        CudnnCall convolution{g, side_in_plan(source), side_in_plan(*destination), destination->images, tall, wide, function,
                              layer->cudnn_floats, layer->bias};
        if (!floats) {
          convolution.weights = layer->cudnn_halves;
          convolution.bias = layer->tensor_bias;
        }
        if (const auto vendor = plan->context->cudnn->prepare(convolution); vendor != nullptr) {
          plan->replace_last(COMNECK_CUDA_CUDNN, [vendor, source, to = *destination](const Queue &queue) {
            return vendor->queue(side_of(queue, source).data, const_cast<void *>(side_of(queue, to).data), queue.workspace, queue.stream);
          }, vendor->workspace_bytes());
        }
      }
    };
    const bool full = present[0].grid == COMNECK_FULL && destination->grid == COMNECK_FULL;
    if (layer->conv_weights != nullptr && full && present.size() == 1 && present[0].channels == g.input_channels && multiplies(*destination) &&
        (residual == nullptr || multiplies(*residual)) && tensor_conv_takes(side_in_plan(present[0]), layer->tensor_type)) {
      TensorConvCall product{};
      product.weights = layer->conv_weights;
      product.bias = layer->bias;
      product.taps = layer->taps;
      product.phases = layer->phases;
      product.phase_count = static_cast<int32_t>(layer->packed.phases.size());
      product.channels = g.input_channels;
      product.outputs = g.output_channels;
      product.input_height = tall;
      product.input_width = wide;
      product.input_step = layer->packed.input_step;
      product.output_step = layer->packed.output_step;
      product.images = destination->images;
      product.height = destination->height;
      product.width = destination->width;
      product.type = layer->tensor_type;
      product.function = function;
      COMNECK_CHECK(plan->add(COMNECK_CUDA_TENSOR_CONVOLUTION, [product, from = present[0], to = *destination, has_residual = residual != nullptr,
                        added = residual != nullptr ? *residual : comneck_view{}](const Queue &queue) mutable {
        product.source = side_of(queue, from);
        if (has_residual) product.residual = side_of(queue, added);
        product.destination = side_of(queue, to);
        return tensor_conv(product, GemmTile::kAuto, queue.multiprocessors, queue.stream);
      }));
      to_cudnn();
      return COMNECK_OK;
    }
    ConvCall call{};
    call.source_count = static_cast<int32_t>(present.size());
    COMNECK_CHECK(canonical_weights(*layer, &call.weights));
    call.bias = layer->bias;
    call.taps = layer->taps;
    call.phases = layer->phases;
    call.phase_count = static_cast<int32_t>(layer->packed.phases.size());
    call.input_channels = g.input_channels;
    call.outputs = g.output_channels;
    call.columns = layer->packed.columns;
    call.input_height = tall;
    call.input_width = wide;
    call.input_step = layer->packed.input_step;
    call.output_step = layer->packed.output_step;
    call.images = destination->images;
    call.grid = destination->grid;
    call.height = destination->height;
    call.width = destination->width;
    call.positions = static_cast<int32_t>(positions_of(*destination));
    call.rounded = g.precision == COMNECK_PRECISION_BF16;
    call.function = function;
    const bool has_residual = residual != nullptr;
    COMNECK_CHECK(plan->add(COMNECK_CUDA_CANONICAL_CONVOLUTION, [call, present, first, to = *destination, has_residual,
                      added = has_residual ? *residual : comneck_view{}](const Queue &queue) mutable {
      for (size_t s = 0; s < present.size(); s++) {
        call.sources[s] = {side_of(queue, present[s]), present[s].channels, first[s], present[s].grid != COMNECK_FULL};
      }
      if (has_residual) call.residual = side_of(queue, added);
      call.destination = side_of(queue, to);
      return canonical_conv(call, ConvTile::kAuto, queue.multiprocessors, queue.stream);
    }));
    to_cudnn();
    return COMNECK_OK;
  });
}

int32_t comneck_plan_gate(comneck_plan *plan, const comneck_view *a, const comneck_view *b, const comneck_view *x,
                          const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return no_plan();
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    for (const comneck_view *view : {a, b, x}) {
      COMNECK_CHECK(check_values(*plan, view, "an operand"));
      COMNECK_CHECK(check_same(*view, *destination));
    }
    return plan->add(COMNECK_CUDA_ELEMENTWISE, [a = *a, b = *b, x = *x, to = *destination](const Queue &q) {
      return gate(side_of(q, a), side_of(q, b), side_of(q, x), side_of(q, to), extent_of(to), q.stream);
    });
  });
}

int32_t comneck_plan_add(comneck_plan *plan, const comneck_view *a, const comneck_view *b, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return no_plan();
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    for (const comneck_view *view : {a, b}) {
      COMNECK_CHECK(check_values(*plan, view, "an operand"));
      COMNECK_CHECK(check_same(*view, *destination));
    }
    return plan->add(COMNECK_CUDA_ELEMENTWISE, [a = *a, b = *b, to = *destination](const Queue &q) {
      return add(side_of(q, a), side_of(q, b), side_of(q, to), extent_of(to), q.stream);
    });
  });
}

int32_t comneck_plan_scale(comneck_plan *plan, const comneck_view *source, const comneck_view *gains, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return no_plan();
    COMNECK_CHECK(check_values(*plan, source, "the source"));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(plan->check(gains, "the gains", COMNECK_F32, COMNECK_F32));
    COMNECK_CHECK(check_same(*source, *destination));
    if (gains->images != source->images || gains->channels != source->channels || positions_of(*gains) != 1) {
      return fail(COMNECK_MISUSE, "gains %s for %s", ViewText(*gains).text, ViewText(*source).text);
    }
    return plan->add(COMNECK_CUDA_ELEMENTWISE, [from = *source, gains = *gains, to = *destination](const Queue &q) {
      return scale(side_of(q, from), side_of(q, gains), side_of(q, to), extent_of(to), positions_of(to), q.stream);
    });
  });
}

int32_t comneck_plan_copy(comneck_plan *plan, const comneck_view *source, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return no_plan();
    COMNECK_CHECK(check_values(*plan, source, "the source"));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(check_same(*source, *destination));
    return plan->add(COMNECK_CUDA_ELEMENTWISE, [from = *source, to = *destination](const Queue &q) {
      return copy(side_of(q, from), positions_of(from), 0, side_of(q, to), positions_of(to), extent_of(to), q.stream);
    });
  });
}

int32_t comneck_plan_layer_norm(comneck_plan *plan, const comneck_view *source, const float *weight, int64_t weight_bytes, const float *bias,
                                int64_t bias_bytes, float epsilon, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return no_plan();
    COMNECK_CHECK(check_values(*plan, source, "the source"));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(check_same(*source, *destination));
    COMNECK_CHECK(check_norm(*source, weight, weight_bytes, bias, bias_bytes));
    const bool fast = row_norm_takes(side_in_plan(*source), side_in_plan(*destination), source->channels);
    return plan->add(fast ? COMNECK_CUDA_ROW_NORM : COMNECK_CUDA_CANONICAL_NORM,
                     [from = *source, to = *destination, epsilon, w = plan->constant(weight, weight_bytes),
                      b = plan->constant(bias, bias_bytes), norm = fast ? row_norm : layer_norm](const Queue &q) {
      return norm(side_of(q, from), floats_at(q, w), floats_at(q, b), epsilon, side_of(q, to), positions_of(to) * to.images, to.channels, q.stream);
    });
  });
}

int32_t comneck_plan_attention(comneck_plan *plan, const comneck_view *qkv, int32_t heads, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return no_plan();
    COMNECK_CHECK(check_values(*plan, qkv, "qkv"));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(check_tokens(*qkv, *destination));
    if (positions_of(*qkv) != positions_of(*destination) || qkv->channels != 3 * int64_t{destination->channels} || heads < 1 ||
        destination->channels % heads != 0) {
      return fail(COMNECK_MISUSE, "attention of %d heads from %s to %s", heads, ViewText(*qkv).text, ViewText(*destination).text);
    }
    const int32_t depth = destination->channels / heads;
    const auto tokens = static_cast<int32_t>(positions_of(*destination));
    if (fused_attention_takes(side_in_plan(*qkv), side_in_plan(*destination), depth)) {
      return plan->add(COMNECK_CUDA_FUSED_ATTENTION,
                       [from = *qkv, to = *destination, tokens, heads, depth, kernel = plan->context->attention](const Queue &q) {
        return fused_attention(side_of(q, from), side_of(q, to), to.images, tokens, heads, depth, kernel, q.multiprocessors, q.stream);
      });
    }
    return plan->add(COMNECK_CUDA_CANONICAL_ATTENTION, [from = *qkv, to = *destination, tokens, heads, depth](const Queue &q) {
      return attention(side_of(q, from), side_of(q, to), to.images, tokens, heads, depth, q.stream);
    });
  });
}

int32_t comneck_plan_embed(comneck_plan *plan, const comneck_view *source, const float *class_token, int64_t class_token_bytes,
                           const float *positions, int64_t positions_bytes, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return no_plan();
    COMNECK_CHECK(check_embedding(*plan, source, class_token, class_token_bytes, positions, positions_bytes, destination));
    return plan->add(COMNECK_CUDA_ELEMENTWISE, [from = *source, to = *destination, shift = class_token == nullptr ? 0 : 1,
                      token = plan->constant(class_token, class_token_bytes), table = plan->constant(positions, positions_bytes)](const Queue &q) {
      return embed(side_of(q, from), floats_at(q, token), floats_at(q, table), side_of(q, to), positions_of(to), shift, extent_of(to), q.stream);
    });
  });
}

int32_t comneck_cuda_plan_embed_norm(comneck_plan *plan, const comneck_view *source, const float *class_token, int64_t class_token_bytes,
                                     const float *positions, int64_t positions_bytes, const float *weight, int64_t weight_bytes,
                                     const float *bias, int64_t bias_bytes, float epsilon, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return no_plan();
    COMNECK_CHECK(check_embedding(*plan, source, class_token, class_token_bytes, positions, positions_bytes, destination));
    COMNECK_CHECK(check_norm(*source, weight, weight_bytes, bias, bias_bytes));
    return plan->add(COMNECK_CUDA_EMBED_NORM,
                     [from = *source, to = *destination, epsilon, shift = class_token == nullptr ? 0 : 1,
                      token = plan->constant(class_token, class_token_bytes), table = plan->constant(positions, positions_bytes),
                      w = plan->constant(weight, weight_bytes), b = plan->constant(bias, bias_bytes)](const Queue &q) {
      return embed_norm(side_of(q, from), floats_at(q, token), floats_at(q, table), positions_of(to), shift, floats_at(q, w), floats_at(q, b),
                        epsilon, side_of(q, to), positions_of(to) * to.images, to.channels, q.stream);
    });
  });
}

int32_t comneck_plan_select_tokens(comneck_plan *plan, const comneck_view *source, int32_t first, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return no_plan();
    COMNECK_CHECK(check_values(*plan, source, "the source"));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(check_tokens(*source, *destination));
    if (source->channels != destination->channels || first < 0 || first + positions_of(*destination) > positions_of(*source)) {
      return fail(COMNECK_MISUSE, "tokens from %d on of %s as %s", first, ViewText(*source).text, ViewText(*destination).text);
    }
    return plan->add(COMNECK_CUDA_ELEMENTWISE, [from = *source, to = *destination, first](const Queue &q) {
      return copy(side_of(q, from), positions_of(from), first, side_of(q, to), positions_of(to), extent_of(to), q.stream);
    });
  });
}

int32_t comneck_plan_normalize(comneck_plan *plan, const comneck_view *pixels, const float *mean, int64_t mean_bytes, const float *deviation,
                               int64_t deviation_bytes, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return no_plan();
    COMNECK_CHECK(plan->check(pixels, "the pixels", COMNECK_U8, COMNECK_U8));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(check_same(*pixels, *destination));
    const int64_t bytes = int64_t{pixels->channels} * 4;
    if (mean == nullptr || deviation == nullptr || mean_bytes != bytes || deviation_bytes != bytes) {
      return fail(COMNECK_MISUSE, "mean and deviation for %d channels", pixels->channels);
    }
    return plan->add(COMNECK_CUDA_ELEMENTWISE, [from = *pixels, to = *destination, m = plan->constant(mean, bytes), d = plan->constant(deviation, bytes)](const Queue &q) {
      return normalize(data_of<uint8_t>(q, from), from.channel_stride, floats_at(q, m), floats_at(q, d), side_of(q, to), extent_of(to), q.stream);
    });
  });
}

int32_t comneck_plan_to_pixels(comneck_plan *plan, const comneck_view *source, const comneck_view *pixels) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return no_plan();
    COMNECK_CHECK(check_values(*plan, source, "the source"));
    COMNECK_CHECK(plan->check(pixels, "the pixels", COMNECK_U8, COMNECK_U8));
    COMNECK_CHECK(check_same(*source, *pixels));
    return plan->add(COMNECK_CUDA_ELEMENTWISE, [from = *source, to = *pixels](const Queue &q) {
      return to_pixels(side_of(q, from), data_of<uint8_t>(q, to), to.channel_stride, extent_of(to), q.stream);
    });
  });
}

int32_t comneck_plan_resample(comneck_plan *plan, const comneck_view *pixels, int32_t rows, const int32_t *taps, int64_t taps_bytes,
                              const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return no_plan();
    COMNECK_CHECK(plan->check(pixels, "the pixels", COMNECK_U8, COMNECK_U8));
    COMNECK_CHECK(plan->check(destination, "the destination", COMNECK_U8, COMNECK_U8));
    COMNECK_CHECK(check_resample(*pixels, rows, taps, taps_bytes, *destination));
    const auto most = static_cast<int32_t>(taps_bytes / 4 / (rows != 0 ? destination->height : destination->width) - 2);
    return plan->add(COMNECK_CUDA_ELEMENTWISE, [from = *pixels, to = *destination, rows, most, t = plan->constant(taps, taps_bytes)](const Queue &q) {
      const ResampleCall call{data_of<uint8_t>(q, from), from.channel_stride, from.height, from.width, data_of<uint8_t>(q, to), to.channel_stride,
                              to.height, to.width, to.images, to.channels, rows != 0, reinterpret_cast<const int32_t *>(q.constants + t), most};
      return resample(call, q.stream);
    });
  });
}

// -------------------------------------------------------------------------------------------------------------------- coding steps

namespace {

int32_t check_factorized(comneck_plan &plan, const comneck_view *symbols, const comneck_view *z_hat, const float *medians, int64_t medians_bytes) {
  COMNECK_CHECK(plan.check(symbols, "the symbols", COMNECK_I16, COMNECK_I16));
  COMNECK_CHECK(plan.check(z_hat, "z_hat", COMNECK_F32, COMNECK_F32));
  COMNECK_CHECK(check_same(*symbols, *z_hat));
  if (medians == nullptr || medians_bytes != int64_t{4} * z_hat->channels || z_hat->grid != COMNECK_FULL) {
    return fail(COMNECK_MISUSE, "%lld bytes of medians for %s", static_cast<long long>(medians_bytes), ViewText(*z_hat).text);
  }
  return COMNECK_OK;
}

int32_t check_gaussian(comneck_plan &plan, const comneck_view *parameters, const comneck_view *symbols, const comneck_view *y_hat,
                       const float *thresholds, int64_t thresholds_bytes) {
  COMNECK_CHECK(plan.check(parameters, "the parameters", COMNECK_F32, COMNECK_F32));
  COMNECK_CHECK(plan.check(symbols, "the symbols", COMNECK_I16, COMNECK_I16));
  COMNECK_CHECK(plan.check(y_hat, "y_hat", COMNECK_F32, COMNECK_F32));
  comneck_view halved = *parameters;
  halved.channels /= 2;
  comneck_view full = *y_hat;
  full.grid = parameters->grid;
  if (parameters->channels % 2 != 0 || !same_shape(halved, *symbols) || y_hat->grid != COMNECK_FULL || !same_shape(full, *symbols)) {
    return fail(COMNECK_MISUSE, "parameters %s, symbols %s and y_hat %s do not fit", ViewText(*parameters).text, ViewText(*symbols).text,
                ViewText(*y_hat).text);
  }
  const bool present = thresholds != nullptr && thresholds_bytes >= 4 && thresholds_bytes <= 255 * 4 && thresholds_bytes % 4 == 0;
  const int64_t count = present ? thresholds_bytes / 4 : 0;
  const bool numbers = std::none_of(thresholds, thresholds + count, [](float x) { return x != x; });
  if (!present || !numbers || !std::is_sorted(thresholds, thresholds + count)) {
    return fail(COMNECK_MISUSE, "%lld bytes of thresholds: 1 to 255 ascending ones are needed", static_cast<long long>(thresholds_bytes));
  }
  return COMNECK_OK;
}

QuantizeCall quantize_call(const comneck_view &coded) {
  QuantizeCall call{};
  call.images = coded.images;
  call.grid = coded.grid;
  call.height = coded.height;
  call.width = coded.width;
  call.positions = static_cast<int32_t>(positions_of(coded));
  call.channels = coded.channels;
  return call;
}

// The next pass: means and thresholds are offsets of constants, parameters the view of the Gaussian's means.
int32_t add_decode(comneck_plan &plan, const comneck_tables *tables, int32_t needed, const comneck_view &symbols, const comneck_view &hat,
                   const comneck_view *parameters, int64_t constants, int32_t threshold_count) {
  if (plan.payloads.size() != static_cast<size_t>(symbols.images) || plan.finishes) {
    return fail(COMNECK_MISUSE, "symbols %s, but %d payloads, or they are finished", ViewText(symbols).text, static_cast<int>(plan.payloads.size()));
  }
  if (tables == nullptr || tables->packed.tables < needed) {
    return fail(COMNECK_MISUSE, "%d coding tables, needed are %d", tables == nullptr ? 0 : tables->packed.tables, needed);
  }
  if (!plan.tables.contains(tables)) {
    std::vector<uint8_t> packed;
    const RansTablesLayout layout = pack_device_tables(tables->packed, &packed);
    plan.tables[tables] = {plan.constant(packed.data(), static_cast<int64_t>(packed.size())), layout};
  }
  const auto [at_tables, layout] = plan.tables[tables];
  RansDecodeCall call{};
  call.image_count = symbols.images;
  call.layout = layout;
  call.grid = symbols.grid;
  call.height = symbols.height;
  call.width = symbols.width;
  call.positions = static_cast<int32_t>(positions_of(symbols));
  call.channels = symbols.channels;
  call.threshold_count = threshold_count;
  call.symbols_stride = symbols.channel_stride;
  call.hat_stride = hat.channel_stride;
  const int64_t count = int64_t{call.positions} * call.channels;
  const int64_t first = plan.symbols;
  plan.symbols += count;
  plan.most_symbols = std::max(plan.most_symbols, count);
  const bool gaussian = parameters != nullptr;
  return plan.add(COMNECK_CUDA_RANS, [call, at_tables, symbols, hat, gaussian, constants, first,
                   means = gaussian ? *parameters : comneck_view{}](const Queue &q) mutable {
    call.images = q.images;
    call.words = q.words;
    call.bits = q.bits;
    call.tables = reinterpret_cast<const uint8_t *>(q.constants + at_tables);
    call.means = gaussian ? data_of<float>(q, means) : floats_at(q, constants);
    call.means_stride = means.channel_stride;
    call.thresholds = gaussian ? floats_at(q, constants) : nullptr;
    call.symbols = data_of<int16_t>(q, symbols);
    call.hat = data_of<float>(q, hat);
    call.indices = q.indices;
    call.coded = q.coded + first;
    call.coded_stride = q.symbols;
    return rans_decode(call, images_per_block(call.image_count, q.multiprocessors), q.stream);
  });
}

}  // namespace

int32_t comneck_plan_quantize_factorized(comneck_plan *plan, const comneck_view *z, const float *medians, int64_t medians_bytes,
                                         const comneck_view *symbols, const comneck_view *z_hat) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return no_plan();
    COMNECK_CHECK(check_factorized(*plan, symbols, z_hat, medians, medians_bytes));
    COMNECK_CHECK(plan->check(z, "z", COMNECK_F32, COMNECK_F32));
    COMNECK_CHECK(check_same(*z, *z_hat));
    return plan->add(COMNECK_CUDA_ELEMENTWISE, [z = *z, symbols = *symbols, hat = *z_hat, m = plan->constant(medians, medians_bytes)](const Queue &q) {
      QuantizeCall call = quantize_call(symbols);
      call.values = data_of<float>(q, z);
      call.values_stride = z.channel_stride;
      call.means = floats_at(q, m);
      call.symbols = data_of<int16_t>(q, symbols);
      call.symbols_stride = symbols.channel_stride;
      call.hat = data_of<float>(q, hat);
      call.hat_stride = hat.channel_stride;
      return quantize(call, q.stream);
    });
  });
}

int32_t comneck_plan_quantize_gaussian(comneck_plan *plan, const comneck_view *y, const comneck_view *parameters, const float *thresholds,
                                       int64_t thresholds_bytes, const comneck_view *indices, const comneck_view *symbols,
                                       const comneck_view *y_hat) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return no_plan();
    COMNECK_CHECK(check_gaussian(*plan, parameters, symbols, y_hat, thresholds, thresholds_bytes));
    COMNECK_CHECK(plan->check(y, "y", COMNECK_F32, COMNECK_F32));
    COMNECK_CHECK(plan->check(indices, "the indices", COMNECK_U8, COMNECK_U8));
    COMNECK_CHECK(check_same(*y, *y_hat));
    COMNECK_CHECK(check_same(*indices, *symbols));
    return plan->add(COMNECK_CUDA_ELEMENTWISE, [y = *y, means = *parameters, t = plan->constant(thresholds, thresholds_bytes), count = static_cast<int32_t>(thresholds_bytes / 4),
                      indices = *indices, symbols = *symbols, hat = *y_hat](const Queue &q) {
      QuantizeCall call = quantize_call(symbols);
      call.values = data_of<float>(q, y);
      call.values_stride = y.channel_stride;
      call.means = data_of<float>(q, means);
      call.means_stride = means.channel_stride;
      call.thresholds = floats_at(q, t);
      call.threshold_count = count;
      call.indices = data_of<uint8_t>(q, indices);
      call.indices_stride = indices.channel_stride;
      call.symbols = data_of<int16_t>(q, symbols);
      call.symbols_stride = symbols.channel_stride;
      call.hat = data_of<float>(q, hat);
      call.hat_stride = hat.channel_stride;
      return quantize(call, q.stream);
    });
  });
}

int32_t comneck_plan_payloads(comneck_plan *plan, int32_t images) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr || plan->sealed) return fail(COMNECK_MISUSE, "no plan that could take payloads");
    if (!plan->payloads.empty() || images < 1) return fail(COMNECK_MISUSE, "%d payloads, or for the second time", images);
    plan->payloads.resize(static_cast<size_t>(images));
    return COMNECK_OK;
  });
}

int32_t comneck_plan_decode_factorized(comneck_plan *plan, const comneck_tables *tables, const float *medians, int64_t medians_bytes,
                                       const comneck_view *symbols, const comneck_view *z_hat) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return no_plan();
    COMNECK_CHECK(check_factorized(*plan, symbols, z_hat, medians, medians_bytes));
    return add_decode(*plan, tables, z_hat->channels, *symbols, *z_hat, nullptr, plan->constant(medians, medians_bytes), 0);
  });
}

int32_t comneck_plan_decode_gaussian(comneck_plan *plan, const comneck_tables *tables, const comneck_view *parameters,
                                     const float *thresholds, int64_t thresholds_bytes, const comneck_view *symbols,
                                     const comneck_view *y_hat) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return no_plan();
    COMNECK_CHECK(check_gaussian(*plan, parameters, symbols, y_hat, thresholds, thresholds_bytes));
    const auto count = static_cast<int32_t>(thresholds_bytes / 4);
    return add_decode(*plan, tables, count + 1, *symbols, *y_hat, parameters, plan->constant(thresholds, thresholds_bytes), count);
  });
}

int32_t comneck_plan_finish_payloads(comneck_plan *plan) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr || plan->payloads.empty() || plan->finishes) return fail(COMNECK_MISUSE, "no payloads that could end");
    plan->finishes = true;
    const auto images = static_cast<int32_t>(plan->payloads.size());
    return plan->add(COMNECK_CUDA_RANS, [images](const Queue &q) {
      return rans_finish(q.images, images, q.bits, q.coded, q.symbols, q.symbols, q.stream);
    });
  });
}

int32_t comneck_plan_payload(comneck_plan *plan, int32_t image, const void *payload, int64_t payload_bytes, int32_t symbol_checksum) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr || image < 0 || image >= static_cast<int32_t>(plan->payloads.size())) {
      return fail(COMNECK_MISUSE, "no payload of image %d was declared", image);
    }
    if (payload_bytes < 0 || (payload == nullptr && payload_bytes > 0)) return fail(COMNECK_MISUSE, "no payload");
    const auto *bytes = static_cast<const uint8_t *>(payload);
    comneck_plan::Payload &it = plan->payloads[static_cast<size_t>(image)];
    it.bytes.assign(bytes, bytes + payload_bytes);
    it.checksum = static_cast<uint32_t>(symbol_checksum);
    return COMNECK_OK;
  });
}

int32_t comneck_plan_damage(const comneck_plan *plan, int32_t image, char *text, int64_t text_bytes, int64_t *offset) {
  if (plan == nullptr || image < 0 || image >= static_cast<int32_t>(plan->payloads.size())) {
    return fail(COMNECK_MISUSE, "no payload of image %d was declared", image);
  }
  const PayloadDamage &damage = plan->payloads[static_cast<size_t>(image)].damage;
  return copy_damage(damage.message, damage.offset, text, text_bytes, offset);
}

int32_t comneck_plan_encode(comneck_plan *plan, const comneck_tables *const *tables, const comneck_view *symbols,
                            const comneck_view *indices, int32_t pass_count, int32_t substreams) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr || plan->sealed || !plan->encoded_passes.empty()) {
      return fail(COMNECK_MISUSE, "no plan that could encode, or for the second time");
    }
    COMNECK_CHECK(check_encode(tables, symbols, indices, pass_count, substreams, &plan->reach));
    RansEncodeCall &call = plan->encode;
    std::vector<uint8_t> block;
    std::map<const comneck_tables *, RansEncodeTables> packed;
    for (int32_t p = 0; p < pass_count; p++) {
      if (!packed.contains(tables[p])) packed[tables[p]] = append_encode_tables(tables[p]->packed, &block);
      comneck_plan::EncodedPass pass{symbols[p], indices[p], 0, packed[tables[p]]};
      if (indices[p].channel_stride == 0) {
        const std::vector<uint8_t> channels = channel_indices(symbols[p]);
        pass.channel_indices = plan->constant(channels.data(), static_cast<int64_t>(channels.size()));
      }
      call.symbols += positions_of(symbols[p]) * symbols[p].channels;
      plan->encoded_passes.push_back(pass);
    }
    call.image_count = symbols[0].images;
    call.substreams = substreams;
    call.pass_count = pass_count;
    call.tables_bytes = static_cast<int32_t>(block.size());
    call.word_room = rans_encode_words(call.symbols, pass_count);
    plan->at_encode_tables = plan->constant(block.data(), static_cast<int64_t>(block.size()));
    const std::vector<RansEncodePass> unaddressed(static_cast<size_t>(pass_count));
    plan->at_encoded_passes = plan->constant(unaddressed.data(), static_cast<int64_t>(unaddressed.size() * sizeof(RansEncodePass)));
    return plan->add(COMNECK_CUDA_RANS, [](const Queue &q) {
      return rans_encode(*q.encode, images_per_block(q.encode->image_count, q.multiprocessors), q.stream);
    });
  });
}

int32_t comneck_plan_encoded(const comneck_plan *plan, int32_t image, const void **payload, int64_t *payload_bytes, int32_t *symbol_checksum) {
  if (plan == nullptr || image < 0 || image >= plan->encode.image_count || payload == nullptr || payload_bytes == nullptr ||
      symbol_checksum == nullptr) {
    return fail(COMNECK_MISUSE, "image %d is none that the plan encodes", image);
  }
  if (!plan->encoded_valid) return not_executed();
  const RansEncoded &it = plan->encoded_results()[image];
  if (it.no_table != 0) return no_table(image);
  const int64_t payloads = plan->encoded.bytes() - plan->encode.image_count * plan->encode.payload_room;
  *payload = plan->encoded_staging.data() + payloads + image * plan->encode.payload_room;
  *payload_bytes = it.bytes;
  *symbol_checksum = static_cast<int32_t>(it.checksum);
  return COMNECK_OK;
}

// A decoder without a plan runs on the processor.
int32_t comneck_rans_decoder_create(const comneck_context *context, comneck_rans_decoder **decoder) {
  return guarded([&]() -> int32_t {
    if (context == nullptr || decoder == nullptr) return fail(COMNECK_MISUSE, "no context");
    *decoder = new comneck_rans_decoder(COMNECK_ISA_AUTO);
    return COMNECK_OK;
  });
}
