// Steps between the layers: element-wise operations, copies, LayerNorm, embedding and attention. The arithmetic is in
// vision/; here shapes are checked and rows are shared out among threads.
#include <math.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

#include "backend/plan.h"
#include "vision/vision.h"

namespace comneck {
namespace {

static_assert(kF32 == COMNECK_F32 && kBf16 == COMNECK_BF16);

Rows rows_of(const Execution &execution, const comneck_view &view) {
  return {at(execution, view), view.type, view.channel_stride};
}

MutableRows mutable_rows_of(const Execution &execution, const comneck_view &view) {
  return {at(execution, view), view.type, view.channel_stride};
}

// Calls a kernel for all rows of the destination, some at a time.
template <class Call>
class RowStep final : public Step {
 public:
  using Kernel = void (*)(const Call &call, int64_t first, int64_t count);

  RowStep(Kernel kernel, const comneck_view &over, std::function<Call(const Execution &)> call)
      : kernel_(kernel),
        rows_(positions_of(over) * over.images),
        block_(std::max<int64_t>(1, 8192 / over.channels)),
        call_(std::move(call)) {}

  void execute(const Execution &execution) const override {
    const Call call = call_(execution);
    execution.pool.run((rows_ + block_ - 1) / block_, [&](int64_t block, int32_t) {
      kernel_(call, block * block_, std::min(block_, rows_ - block * block_));
    });
  }

 private:
  Kernel kernel_;
  int64_t rows_;
  int64_t block_;  // rows of a task
  std::function<Call(const Execution &)> call_;
};

template <class Call>
int32_t add_rows(comneck_plan &plan, void (*kernel)(const Call &, int64_t, int64_t), const comneck_view &over,
                 std::function<Call(const Execution &)> call) {
  return plan.add(std::make_unique<RowStep<Call>>(kernel, over, std::move(call)));
}

class Attention final : public Step {
 public:
  Attention(const AttentionKernels &kernels, const AttentionCall &call, const comneck_view &qkv,
            const comneck_view &destination)
      : kernels_(kernels),
        call_(call),
        qkv_(qkv),
        destination_(destination),
        packed_bytes_((kernels.packed_bytes(call) + 63) / 64 * 64),
        thread_bytes_((kernels.thread_bytes(call) + 63) / 64 * 64) {}

  int64_t scratch_bytes(int32_t threads) const { return packed_bytes_ + threads * thread_bytes_; }

  void execute(const Execution &execution) const override {
    AttentionCall call = call_;
    call.qkv = rows_of(execution, qkv_);
    call.destination = mutable_rows_of(execution, destination_);
    call.packed = execution.scratch;
    execution.pool.run(call.images * call.heads, [&](int64_t item, int32_t) { kernels_.pack(call, item); });
    execution.pool.run(attention_items(call), [&](int64_t item, int32_t thread) {
      kernels_.attend(call, item, execution.scratch + packed_bytes_ + thread * thread_bytes_);
    });
  }

 private:
  const AttentionKernels &kernels_;
  AttentionCall call_;
  comneck_view qkv_;
  comneck_view destination_;
  int64_t packed_bytes_;
  int64_t thread_bytes_;
};

int32_t check_values(comneck_plan &plan, const comneck_view *view, const char *name) {
  return plan.check_view(view, name, COMNECK_F32, COMNECK_BF16);
}

// Copies of the f32 vectors that a step keeps.
std::shared_ptr<std::vector<float>> keep(const float *values, int64_t bytes) {
  auto copy = std::make_shared<std::vector<float>>(static_cast<size_t>(bytes / 4));
  if (bytes > 0) std::memcpy(copy->data(), values, static_cast<size_t>(bytes));
  return copy;
}

}  // namespace
}  // namespace comneck

using namespace comneck;

#define COMNECK_CHECK(call)                                                 \
  do {                                                                      \
    if (const int32_t failed = (call); failed != COMNECK_OK) return failed; \
  } while (0)

int32_t comneck_plan_gate(comneck_plan *plan, const comneck_view *a, const comneck_view *b, const comneck_view *x,
                          const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    for (const comneck_view *view : {a, b, x}) {
      COMNECK_CHECK(check_values(*plan, view, "an operand"));
      COMNECK_CHECK(check_same(*view, *destination));
    }
    return add_rows<GateCall>(*plan, plan->context->vision.gate, *destination,
                              [a = *a, b = *b, x = *x, to = *destination](const Execution &e) {
                                return GateCall{rows_of(e, a), rows_of(e, b), rows_of(e, x), mutable_rows_of(e, to),
                                                to.channels};
                              });
  });
}

int32_t comneck_plan_add(comneck_plan *plan, const comneck_view *a, const comneck_view *b,
                         const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    for (const comneck_view *view : {a, b}) {
      COMNECK_CHECK(check_values(*plan, view, "an operand"));
      COMNECK_CHECK(check_same(*view, *destination));
    }
    return add_rows<AddCall>(*plan, plan->context->vision.add, *destination,
                             [a = *a, b = *b, to = *destination](const Execution &e) {
                               return AddCall{rows_of(e, a), rows_of(e, b), mutable_rows_of(e, to), to.channels};
                             });
  });
}

int32_t comneck_plan_scale(comneck_plan *plan, const comneck_view *source, const comneck_view *gains,
                           const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_values(*plan, source, "the source"));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(plan->check_view(gains, "the gains", COMNECK_F32));
    COMNECK_CHECK(check_same(*source, *destination));
    if (gains->images != source->images || gains->channels != source->channels || positions_of(*gains) != 1) {
      return fail(COMNECK_MISUSE, "gains %s for %s", ViewText(*gains).text, ViewText(*source).text);
    }
    return add_rows<ScaleCall>(
        *plan, plan->context->vision.scale, *destination,
        [from = *source, gains = *gains, to = *destination](const Execution &e) {
          return ScaleCall{rows_of(e, from),     mutable_rows_of(e, to), reinterpret_cast<const float *>(at(e, gains)),
                           gains.channel_stride, positions_of(to),       to.channels};
        });
  });
}

int32_t comneck_plan_copy(comneck_plan *plan, const comneck_view *source, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_values(*plan, source, "the source"));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(check_same(*source, *destination));
    return add_rows<CopyCall>(
        *plan, plan->context->vision.copy, *destination, [from = *source, to = *destination](const Execution &e) {
          return CopyCall{rows_of(e, from), mutable_rows_of(e, to), positions_of(from), positions_of(to), 0,
                          to.channels};
        });
  });
}

int32_t comneck_plan_layer_norm(comneck_plan *plan, const comneck_view *source, const float *weight,
                                int64_t weight_bytes, const float *bias, int64_t bias_bytes, float epsilon,
                                const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_values(*plan, source, "the source"));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(check_same(*source, *destination));
    const int64_t bytes = int64_t{source->channels} * 4;
    if (weight == nullptr || bias == nullptr || weight_bytes != bytes || bias_bytes != bytes) {
      return fail(COMNECK_MISUSE, "a LayerNorm of %d channels without weight or bias of that size", source->channels);
    }
    return add_rows<LayerNormCall>(*plan, plan->context->vision.layer_norm, *destination,
                                   [from = *source, to = *destination, epsilon, weight = keep(weight, weight_bytes),
                                    bias = keep(bias, bias_bytes)](const Execution &e) {
                                     return LayerNormCall{rows_of(e, from), mutable_rows_of(e, to),
                                                          weight->data(),   bias->data(),
                                                          to.channels,      epsilon};
                                   });
  });
}

int32_t comneck_plan_attention(comneck_plan *plan, const comneck_view *qkv, int32_t heads,
                               const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_values(*plan, qkv, "qkv"));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(check_tokens(*qkv, *destination));
    if (positions_of(*qkv) != positions_of(*destination) || qkv->channels != 3 * int64_t{destination->channels} ||
        heads < 1 || destination->channels % heads != 0) {
      return fail(COMNECK_MISUSE, "attention of %d heads from %s to %s", heads, ViewText(*qkv).text,
                  ViewText(*destination).text);
    }
    const bool fast = qkv->type == COMNECK_BF16;
    AttentionCall call{};
    call.qkv.type = qkv->type;
    call.destination.type = destination->type;
    call.images = qkv->images;
    call.tokens = positions_of(*qkv);
    call.heads = heads;
    call.depth = destination->channels / heads;
    call.scale = static_cast<float>(1.0 / sqrt(static_cast<double>(call.depth)));
    const VisionKernels &kernels = plan->context->vision;
    auto step =
        std::make_unique<Attention>(fast ? kernels.attention_bf16 : kernels.attention, call, *qkv, *destination);
    plan->need_scratch(step->scratch_bytes(plan->threads()));
    return plan->add(std::move(step));
  });
}

int32_t comneck_plan_embed(comneck_plan *plan, const comneck_view *source, const float *class_token,
                           int64_t class_token_bytes, const float *positions, int64_t positions_bytes,
                           const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_values(*plan, source, "the source"));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(check_tokens(*source, *destination));
    const int64_t shift = class_token == nullptr ? 0 : 1;
    const int64_t bytes = int64_t{source->channels} * 4;
    const int64_t tokens = positions_of(*source) + shift;
    if (source->channels != destination->channels || positions_of(*destination) != tokens ||
        class_token_bytes != shift * bytes || positions == nullptr || positions_bytes != tokens * bytes) {
      return fail(COMNECK_MISUSE, "%s does not become %s with a table of %lld bytes", ViewText(*source).text,
                  ViewText(*destination).text, static_cast<long long>(positions_bytes));
    }
    return add_rows<EmbedCall>(
        *plan, plan->context->vision.embed, *destination,
        [from = *source, to = *destination, shift, tokens, token = keep(class_token, class_token_bytes),
         table = keep(positions, positions_bytes)](const Execution &e) {
          return EmbedCall{
              rows_of(e, from), mutable_rows_of(e, to), shift == 0 ? nullptr : token->data(), table->data(), tokens,
              to.channels};
        });
  });
}

int32_t comneck_plan_select_tokens(comneck_plan *plan, const comneck_view *source, int32_t first,
                                   const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_values(*plan, source, "the source"));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(check_tokens(*source, *destination));
    if (source->channels != destination->channels || first < 0 ||
        first + positions_of(*destination) > positions_of(*source)) {
      return fail(COMNECK_MISUSE, "tokens from %d on of %s as %s", first, ViewText(*source).text,
                  ViewText(*destination).text);
    }
    return add_rows<CopyCall>(
        *plan, plan->context->vision.copy, *destination,
        [from = *source, to = *destination, first](const Execution &e) {
          return CopyCall{rows_of(e, from), mutable_rows_of(e, to), positions_of(from), positions_of(to), first,
                          to.channels};
        });
  });
}

int32_t comneck_plan_normalize(comneck_plan *plan, const comneck_view *pixels, const float *mean, int64_t mean_bytes,
                               const float *deviation, int64_t deviation_bytes, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(plan->check_view(pixels, "the pixels", COMNECK_U8));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(check_same(*pixels, *destination));
    const int64_t bytes = int64_t{pixels->channels} * 4;
    if (mean == nullptr || deviation == nullptr || mean_bytes != bytes || deviation_bytes != bytes) {
      return fail(COMNECK_MISUSE, "mean and deviation for %d channels", pixels->channels);
    }
    auto table = std::make_shared<std::vector<float>>(static_cast<size_t>(pixels->channels) * 256);
    normalize_table(mean, deviation, pixels->channels, table->data());
    return add_rows<NormalizeCall>(*plan, plan->context->vision.normalize, *destination,
                                   [from = *pixels, to = *destination, table](const Execution &e) {
                                     return NormalizeCall{reinterpret_cast<const uint8_t *>(at(e, from)),
                                                          from.channel_stride, mutable_rows_of(e, to), table->data(),
                                                          to.channels};
                                   });
  });
}

int32_t comneck_plan_to_pixels(comneck_plan *plan, const comneck_view *source, const comneck_view *pixels) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_values(*plan, source, "the source"));
    COMNECK_CHECK(plan->check_view(pixels, "the pixels", COMNECK_U8));
    COMNECK_CHECK(check_same(*source, *pixels));
    return add_rows<ToPixelsCall>(
        *plan, plan->context->vision.to_pixels, *pixels, [from = *source, to = *pixels](const Execution &e) {
          return ToPixelsCall{rows_of(e, from), reinterpret_cast<uint8_t *>(at(e, to)), to.channel_stride, to.channels};
        });
  });
}
