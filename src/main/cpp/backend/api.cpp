// The C functions of contexts, layers and plans.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

#include "backend/context.h"
#include "backend/convolution.h"
#include "backend/layer.h"
#include "backend/plan.h"
#include "backend/status.h"
#include "comneck.h"

using comneck::fail;
using comneck::guarded;

int32_t comneck_context_create(int32_t threads, int32_t isa, comneck_context **context) {
  return guarded([&] {
    if (context == nullptr) return fail(COMNECK_MISUSE, "no place for the context");
    if (threads < 1 || threads > 256) return fail(COMNECK_MISUSE, "%d threads: 1 to 256 can work", threads);
    if (isa < COMNECK_ISA_AUTO || isa > COMNECK_ISA_AVX512) return fail(COMNECK_MISUSE, "instruction set %d", isa);
    const int32_t best = comneck::best_isa();
    if (isa > best) return fail(COMNECK_UNSUPPORTED, "this machine lacks the instruction set that was asked for");
    *context = new comneck_context(threads, isa == COMNECK_ISA_AUTO ? best : isa);
    return static_cast<int32_t>(COMNECK_OK);
  });
}

int32_t comneck_context_describe(const comneck_context *context, char *text, int64_t text_bytes) {
  if (context == nullptr || text == nullptr || text_bytes < 1)
    return fail(COMNECK_MISUSE, "no context or no room for its text");
  static const char *const names[] = {"", "portable C++", "AVX2", "AVX-512"};
  const int32_t threads = context->pool.threads();
  std::snprintf(text, static_cast<size_t>(text_bytes), "%s%s, %d thread%s", names[context->isa],
                context->bf16_instructions ? " with bf16" : "", threads, threads == 1 ? "" : "s");
  return COMNECK_OK;
}

void comneck_context_destroy(comneck_context *context) { delete context; }

int32_t comneck_layer_create(comneck_context *context, const comneck_convolution *geometry, const void *weight,
                             int64_t weight_bytes, int32_t weight_type, const void *bias, int64_t bias_bytes,
                             int32_t bias_type, comneck_layer **layer) {
  return guarded([&] {
    if (context == nullptr || geometry == nullptr || layer == nullptr)
      return fail(COMNECK_MISUSE, "a layer without its parts");
    return comneck::make_layer(context, *geometry, weight, weight_bytes, weight_type, bias, bias_bytes, bias_type,
                               layer);
  });
}

int32_t comneck_layer_bytes(const comneck_layer *layer, int64_t *bytes) {
  if (layer == nullptr || bytes == nullptr) return fail(COMNECK_MISUSE, "no layer");
  *bytes = layer->bytes();
  return COMNECK_OK;
}

void comneck_layer_destroy(comneck_layer *layer) { delete layer; }

int32_t comneck_plan_create(comneck_context *context, comneck_plan **plan) {
  return guarded([&] {
    if (context == nullptr || plan == nullptr) return fail(COMNECK_MISUSE, "no context");
    *plan = new comneck_plan(context);
    return static_cast<int32_t>(COMNECK_OK);
  });
}

int32_t comneck_plan_stage(comneck_plan *plan, int32_t *stage) {
  return guarded([&] {
    if (plan == nullptr || stage == nullptr || plan->sealed)
      return fail(COMNECK_MISUSE, "no plan that could take a stage");
    plan->nanos.push_back(0);
    *stage = static_cast<int32_t>(plan->nanos.size()) - 1;
    return static_cast<int32_t>(COMNECK_OK);
  });
}

// The memory of this library's plans is the host's: every part of it is a port.
int32_t comneck_plan_port(comneck_plan *plan, int64_t offset_bytes, int64_t bytes, int32_t direction) {
  if (plan == nullptr || plan->sealed || offset_bytes < 0 || bytes < 0 || direction < COMNECK_INPUT ||
      direction > (COMNECK_INPUT | COMNECK_OUTPUT)) {
    return fail(COMNECK_MISUSE, "a port of %lld bytes at %lld, direction %d, or a sealed plan",
                static_cast<long long>(bytes), static_cast<long long>(offset_bytes), direction);
  }
  return COMNECK_OK;
}

int32_t comneck_plan_port_memory(const comneck_plan *plan, int64_t offset_bytes, void **memory) {
  if (plan == nullptr || !plan->sealed || memory == nullptr || offset_bytes < 0 ||
      offset_bytes > plan->memory.bytes()) {
    return fail(COMNECK_MISUSE, "no port at %lld of a sealed plan", static_cast<long long>(offset_bytes));
  }
  *memory = const_cast<char *>(plan->memory.data()) + offset_bytes;
  return COMNECK_OK;
}

int32_t comneck_plan_seal(comneck_plan *plan, int64_t memory_bytes, void **memory) {
  return guarded([&] {
    if (plan == nullptr || memory == nullptr) return fail(COMNECK_MISUSE, "no plan");
    const int32_t status = plan->seal(memory_bytes);
    *memory = plan->memory.data();
    return status;
  });
}

int32_t comneck_plan_bytes(const comneck_plan *plan, int64_t *bytes) {
  if (plan == nullptr || bytes == nullptr) return fail(COMNECK_MISUSE, "no plan");
  *bytes = plan->memory.bytes() + plan->scratch.bytes();
  return COMNECK_OK;
}

int32_t comneck_plan_execute(comneck_plan *plan) {
  return guarded([&] { return plan == nullptr ? fail(COMNECK_MISUSE, "no plan") : plan->execute(); });
}

int32_t comneck_plan_nanos(const comneck_plan *plan, int64_t *nanos, int64_t count) {
  if (plan == nullptr || count < 0 || (nanos == nullptr && count > 0)) {
    return fail(COMNECK_MISUSE, "%lld stages", static_cast<long long>(count));
  }
  std::copy_n(plan->nanos.begin(), std::min(count, static_cast<int64_t>(plan->nanos.size())), nanos);
  return COMNECK_OK;
}

void comneck_plan_destroy(comneck_plan *plan) { delete plan; }

int32_t comneck_plan_convolution(comneck_plan *plan, const comneck_layer *layer, const comneck_view *sources,
                                 int32_t source_count, const comneck_view *residual, int32_t function,
                                 const comneck_view *destination) {
  return guarded([&] {
    if (plan == nullptr || layer == nullptr || destination == nullptr)
      return fail(COMNECK_MISUSE, "a convolution without its parts");
    return comneck::add_convolution(*plan, *layer, sources, source_count, residual, function, *destination);
  });
}
