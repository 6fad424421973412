#include "backend/layer.h"

#include <cstring>
#include <memory>
#include <mutex>

#include "backend/bits.h"
#include "backend/status.h"

namespace comneck {
namespace {

constexpr int64_t kMostChannels = 1 << 20;
constexpr int64_t kMostTaps = 64 * 64;

// Element i of memory of any alignment.
template <int32_t Type>
float element(const char *data, int64_t i) {
  if constexpr (Type == COMNECK_F32) {
    float value;
    std::memcpy(&value, data + i * 4, 4);
    return value;
  } else {
    uint16_t value;
    std::memcpy(&value, data + i * 2, 2);
    return Type == COMNECK_BF16 ? from_bf16(value) : from_f16(value);
  }
}

int64_t element_bytes(int32_t type) {
  if (type == COMNECK_F32) return 4;
  return type == COMNECK_BF16 || type == COMNECK_F16 ? 2 : 0;
}

int32_t check_geometry(const comneck_convolution &g) {
  if (g.input_channels < 1 || g.input_channels > kMostChannels || g.output_channels < 1 ||
      g.output_channels > kMostChannels) {
    return fail(COMNECK_MISUSE, "a layer of %d to %d channels", g.input_channels, g.output_channels);
  }
  if (g.kernel_height < 1 || g.kernel_width < 1 || g.kernel_height > kMostTaps || g.kernel_width > kMostTaps ||
      int64_t{g.kernel_height} * g.kernel_width > kMostTaps) {
    return fail(COMNECK_MISUSE, "a kernel of %d x %d taps", g.kernel_height, g.kernel_width);
  }
  if (g.stride < 1 || g.stride > 4096 || g.padding < 0 || g.padding > 4096) {
    return fail(COMNECK_MISUSE, "stride %d, padding %d", g.stride, g.padding);
  }
  if (g.kind < COMNECK_DIRECT || g.kind > COMNECK_TRANSPOSED)
    return fail(COMNECK_MISUSE, "kind of convolution %d", g.kind);
  if (g.kind == COMNECK_CHECKERBOARD && g.stride != 1)
    return fail(COMNECK_MISUSE, "a checkerboard of stride %d", g.stride);
  if (g.kind == COMNECK_TRANSPOSED &&
      (g.stride > 16 || g.stride + 2 * g.padding < g.kernel_height || g.stride + 2 * g.padding < g.kernel_width)) {
    return fail(COMNECK_MISUSE, "a transposed kernel of %d x %d with stride %d and padding %d", g.kernel_height,
                g.kernel_width, g.stride, g.padding);
  }
  if (g.precision != COMNECK_PRECISION_F32 && g.precision != COMNECK_PRECISION_BF16) {
    return fail(COMNECK_MISUSE, "precision %d", g.precision);
  }
  return COMNECK_OK;
}

void make_phases(comneck_layer &layer) {
  const comneck_convolution &g = layer.geometry;
  const int32_t steps = g.kind == COMNECK_TRANSPOSED ? g.stride : 1;
  layer.input_step = g.kind == COMNECK_TRANSPOSED ? 1 : g.stride;
  layer.output_step = steps;
  int64_t offset = 0;
  for (int32_t y = 0; y < steps; ++y) {
    for (int32_t x = 0; x < steps; ++x) {
      Phase phase{y, x, {}, offset};
      for (int32_t ky = 0; ky < g.kernel_height; ++ky) {
        for (int32_t kx = 0; kx < g.kernel_width; ++kx) {
          if (g.kind == COMNECK_TRANSPOSED) {
            // iy * stride + ky - padding = qy * stride + y, so iy = qy + (y + padding - ky) / stride where that is
            // whole.
            const int32_t down = y + g.padding - ky;
            const int32_t across = x + g.padding - kx;
            if (down % g.stride == 0 && across % g.stride == 0) {
              phase.taps.push_back({down / g.stride, across / g.stride, ky, kx});
            }
          } else if (g.kind != COMNECK_CHECKERBOARD || (ky + kx) % 2 != 0) {
            phase.taps.push_back({ky - g.padding, kx - g.padding, ky, kx});
          }
        }
      }
      offset += static_cast<int64_t>(phase.taps.size()) * layer.units * layer.columns;
      layer.phases.push_back(std::move(phase));
    }
  }
}

template <int32_t Type>
void pack_vector(comneck_layer &layer, const char *weight, const Phase &phase, const Panel &panel, int32_t vector) {
  const comneck_convolution &g = layer.geometry;
  const int32_t lanes = layer.kernels->lanes;
  const int64_t inputs = g.input_channels;
  const int64_t taps = int64_t{g.kernel_height} * g.kernel_width;
  const int64_t width = int64_t{panel.vectors} * lanes;
  const int32_t first = panel.column + vector * lanes;
  const int32_t present = g.output_channels - first < lanes ? g.output_channels - first : lanes;
  const int64_t phase_units = static_cast<int64_t>(phase.taps.size()) * layer.units;
  const int64_t input_stride = g.kind == COMNECK_TRANSPOSED ? g.output_channels * taps : taps;
  const int64_t output_stride = g.kind == COMNECK_TRANSPOSED ? taps : inputs * taps;
  auto *to = reinterpret_cast<uint32_t *>(layer.weights.data()) + phase.offset + phase_units * panel.column +
             int64_t{vector} * lanes;
  for (const Tap &tap : phase.taps) {
    const int64_t base = first * output_stride + int64_t{tap.ky} * g.kernel_width + tap.kx;
    for (int64_t unit = 0; unit < layer.units; ++unit, to += width) {
      if (g.precision == COMNECK_PRECISION_F32) {
        for (int32_t lane = 0; lane < present; ++lane) {
          to[lane] = std::bit_cast<uint32_t>(element<Type>(weight, base + lane * output_stride + unit * input_stride));
        }
      } else {
        for (int32_t lane = 0; lane < present; ++lane) {
          const int64_t low = base + lane * output_stride + 2 * unit * input_stride;
          const uint32_t high = 2 * unit + 1 < inputs ? to_bf16(element<Type>(weight, low + input_stride)) : 0u;
          to[lane] = to_bf16(element<Type>(weight, low)) | high << 16;
        }
      }
    }
  }
}

template <int32_t Type>
void pack(comneck_layer &layer, const char *weight) {
  std::vector<std::pair<const Panel *, int32_t>> vectors;
  for (const Panel &panel : layer.panels) {
    for (int32_t vector = 0; vector < panel.vectors; ++vector) vectors.emplace_back(&panel, vector);
  }
  const auto each = static_cast<int64_t>(vectors.size());
  const std::lock_guard<std::mutex> turn(layer.context->turn);
  layer.context->pool.run(each * static_cast<int64_t>(layer.phases.size()), [&](int64_t task, int32_t) {
    const auto &[panel, vector] = vectors[static_cast<size_t>(task % each)];
    pack_vector<Type>(layer, weight, layer.phases[static_cast<size_t>(task / each)], *panel, vector);
  });
}

}  // namespace

int32_t make_layer(comneck_context *context, const comneck_convolution &geometry, const void *weight,
                   int64_t weight_bytes, int32_t weight_type, const void *bias, int64_t bias_bytes, int32_t bias_type,
                   comneck_layer **result) {
  if (const int32_t status = check_geometry(geometry); status != COMNECK_OK) return status;
  const comneck_convolution &g = geometry;
  if (element_bytes(weight_type) == 0) return fail(COMNECK_MISUSE, "weights of type %d", weight_type);
  const int64_t expected =
      int64_t{g.input_channels} * g.output_channels * g.kernel_height * g.kernel_width * element_bytes(weight_type);
  if (weight == nullptr || weight_bytes != expected) {
    return fail(COMNECK_MISUSE, "a weight of %lld bytes where the layer needs %lld",
                static_cast<long long>(weight_bytes), static_cast<long long>(expected));
  }
  if (bias == nullptr ? bias_bytes != 0
                      : element_bytes(bias_type) == 0 || bias_bytes != g.output_channels * element_bytes(bias_type)) {
    return fail(COMNECK_MISUSE, "a bias of %lld bytes for %d channels", static_cast<long long>(bias_bytes),
                g.output_channels);
  }

  auto layer = std::make_unique<comneck_layer>();
  layer->context = context;
  layer->geometry = g;
  if (g.precision == COMNECK_PRECISION_F32) {
    layer->kernels = g.output_channels <= kNarrow ? &context->f32_narrow : &context->f32;
  } else {
    layer->kernels = g.output_channels <= kNarrow ? &context->bf16_narrow : &context->bf16;
  }
  layer->units = g.precision == COMNECK_PRECISION_F32 ? g.input_channels : (g.input_channels + 1) / 2;
  const int32_t lanes = layer->kernels->lanes;
  const int32_t vectors = (g.output_channels + lanes - 1) / lanes;
  layer->columns = vectors * lanes;
  const int32_t panels = (vectors + layer->kernels->vectors - 1) / layer->kernels->vectors;
  int32_t column = 0;
  for (int32_t i = 0; i < panels; ++i) {
    const int32_t width = vectors / panels + (i < vectors % panels ? 1 : 0);
    layer->panels.push_back({column, width});
    column += width * lanes;
  }
  make_phases(*layer);
  int64_t taps = 0;
  for (const Phase &phase : layer->phases) taps += static_cast<int64_t>(phase.taps.size());
  layer->weights = Memory(taps * layer->units * layer->columns * 4);
  layer->bias = Memory(int64_t{layer->columns} * 4);

  const char *data = static_cast<const char *>(weight);
  if (weight_type == COMNECK_F32) {
    pack<COMNECK_F32>(*layer, data);
  } else if (weight_type == COMNECK_BF16) {
    pack<COMNECK_BF16>(*layer, data);
  } else {
    pack<COMNECK_F16>(*layer, data);
  }
  auto *values = reinterpret_cast<float *>(layer->bias.data());
  for (int32_t i = 0; bias != nullptr && i < g.output_channels; ++i) {
    const char *from = static_cast<const char *>(bias);
    values[i] = bias_type == COMNECK_F32    ? element<COMNECK_F32>(from, i)
                : bias_type == COMNECK_BF16 ? element<COMNECK_BF16>(from, i)
                                            : element<COMNECK_F16>(from, i);
  }
  *result = layer.release();
  return COMNECK_OK;
}

}  // namespace comneck
