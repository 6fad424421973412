// Element-wise steps, copies, LayerNorm and attention, one output row (all channels of a position) at a time.
//
// Twin of org.comneck.backend.reference.ReferenceRunBuilder and ReferenceTokens, operation by operation.
#include <math.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

#include "backend/bits.h"
#include "backend/plan.h"
#include "canonical_math.h"
#include "lanes.h"

namespace comneck {
namespace {

using Lane = PortableLanes;

// Channel c of a row.
float get(const char *row, int32_t type, int64_t c) {
  if (type == COMNECK_F32) {
    float value;
    std::memcpy(&value, row + c * 4, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, row + c * 2, 2);
  return from_bf16(half);
}

void put(char *row, int32_t type, int64_t c, float value) {
  if (type == COMNECK_F32) {
    std::memcpy(row + c * 4, &value, 4);
  } else {
    const uint16_t half = to_bf16(value);
    std::memcpy(row + c * 2, &half, 2);
  }
}

// First channel of position p of an image.
char *row_of(const Execution &execution, const comneck_view &view, int64_t image, int64_t p) {
  return at(execution, view) + (image * positions_of(view) + p) * view.channel_stride * element_bytes_of(view.type);
}

using Body = std::function<void(const Execution &execution, int64_t image, int64_t position, int32_t thread)>;

// Calls body for every (image, position, part).
class Rows final : public Step {
 public:
  Rows(int64_t images, int64_t positions, int64_t work, Body body)
      : positions_(positions), rows_(positions * images), block_(std::max<int64_t>(1, 16384 / work)), body_(std::move(body)) {}
  void execute(const Execution &execution) const override {
    execution.pool.run((rows_ + block_ - 1) / block_, [&](int64_t block, int32_t thread) {
      const int64_t end = std::min(rows_, (block + 1) * block_);
      for (int64_t i = block * block_; i < end; ++i) body_(execution, i / positions_, i % positions_, thread);
    });
  }

 private:
  int64_t positions_;
  int64_t rows_;
  int64_t block_;
  Body body_;
};

int32_t add_rows(comneck_plan &plan, const comneck_view &over, Body body) {
  return plan.add(std::make_unique<Rows>(over.images, positions_of(over), over.channels, std::move(body)));
}

int32_t check_values(comneck_plan &plan, const comneck_view *view, const char *name) {
  return plan.check_view(view, name, COMNECK_F32, COMNECK_BF16);
}

int32_t check_same(const comneck_view &a, const comneck_view &b) {
  if (same_shape(a, b)) return COMNECK_OK;
  return fail(COMNECK_MISUSE, "%s and %s should have one shape", ViewText(a).text, ViewText(b).text);
}

int32_t check_tokens(const comneck_view &a, const comneck_view &b) {
  if (a.grid == COMNECK_FULL && b.grid == COMNECK_FULL && a.images == b.images) return COMNECK_OK;
  return fail(COMNECK_MISUSE, "%s and %s should be full grids of one batch", ViewText(a).text, ViewText(b).text);
}

// Copies of the f32 vectors that a step keeps.
std::shared_ptr<std::vector<float>> keep(const float *values, int64_t bytes) {
  auto copy = std::make_shared<std::vector<float>>(static_cast<size_t>(bytes / 4));
  if (bytes > 0) std::memcpy(copy->data(), values, static_cast<size_t>(bytes));
  return copy;
}

float total(const float *partial) {
  float sum = partial[0];
  for (int i = 1; i < 16; ++i) sum = sum + partial[i];
  return sum;
}

}  // namespace
}  // namespace comneck

using namespace comneck;

#define COMNECK_CHECK(call)                                          \
  do {                                                               \
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
    return add_rows(*plan, *destination, [a = *a, b = *b, x = *x, to = *destination](const Execution &e, int64_t n, int64_t p, int32_t) {
      const char *ra = row_of(e, a, n, p);
      const char *rb = row_of(e, b, n, p);
      const char *rx = row_of(e, x, n, p);
      char *out = row_of(e, to, n, p);
      for (int32_t c = 0; c < to.channels; ++c) {
        put(out, to.type, c, fmaf(get(ra, a.type, c), canonical::sigmoid<Lane>(get(rb, b.type, c)), get(rx, x.type, c)));
      }
    });
  });
}

int32_t comneck_plan_add(comneck_plan *plan, const comneck_view *a, const comneck_view *b, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    for (const comneck_view *view : {a, b}) {
      COMNECK_CHECK(check_values(*plan, view, "an operand"));
      COMNECK_CHECK(check_same(*view, *destination));
    }
    return add_rows(*plan, *destination, [a = *a, b = *b, to = *destination](const Execution &e, int64_t n, int64_t p, int32_t) {
      const char *ra = row_of(e, a, n, p);
      const char *rb = row_of(e, b, n, p);
      char *out = row_of(e, to, n, p);
      for (int32_t c = 0; c < to.channels; ++c) put(out, to.type, c, get(ra, a.type, c) + get(rb, b.type, c));
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
    return add_rows(*plan, *destination,
                    [from = *source, gains = *gains, to = *destination](const Execution &e, int64_t n, int64_t p, int32_t) {
                      const char *in = row_of(e, from, n, p);
                      const char *factors = row_of(e, gains, n, 0);
                      char *out = row_of(e, to, n, p);
                      for (int32_t c = 0; c < to.channels; ++c) {
                        put(out, to.type, c, get(in, from.type, c) * get(factors, COMNECK_F32, c));
                      }
                    });
  });
}

int32_t comneck_plan_copy(comneck_plan *plan, const comneck_view *source, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_values(*plan, source, "the source"));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(check_same(*source, *destination));
    return add_rows(*plan, *destination, [from = *source, to = *destination](const Execution &e, int64_t n, int64_t p, int32_t) {
      const char *in = row_of(e, from, n, p);
      char *out = row_of(e, to, n, p);
      for (int32_t c = 0; c < to.channels; ++c) put(out, to.type, c, get(in, from.type, c));
    });
  });
}

int32_t comneck_plan_layer_norm(comneck_plan *plan, const comneck_view *source, const float *weight, int64_t weight_bytes,
                                const float *bias, int64_t bias_bytes, float epsilon, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_values(*plan, source, "the source"));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(check_same(*source, *destination));
    const int64_t bytes = int64_t{source->channels} * 4;
    if (weight == nullptr || bias == nullptr || weight_bytes != bytes || bias_bytes != bytes) {
      return fail(COMNECK_MISUSE, "a LayerNorm of %d channels without weight or bias of that size", source->channels);
    }
    return add_rows(*plan, *destination,
                    [from = *source, to = *destination, epsilon, weight = keep(weight, weight_bytes),
                     bias = keep(bias, bias_bytes)](const Execution &e, int64_t n, int64_t p, int32_t) {
                      const char *in = row_of(e, from, n, p);
                      char *out = row_of(e, to, n, p);
                      const auto width = static_cast<float>(from.channels);
                      float partial[16] = {};
                      for (int32_t c = 0; c < from.channels; ++c) partial[c & 15] = partial[c & 15] + get(in, from.type, c);
                      const float mean = total(partial) / width;
                      std::fill_n(partial, 16, 0.0f);
                      for (int32_t c = 0; c < from.channels; ++c) {
                        const float d = get(in, from.type, c) - mean;
                        partial[c & 15] = fmaf(d, d, partial[c & 15]);
                      }
                      const float inverse = 1.0f / sqrtf(total(partial) / width + epsilon);
                      for (int32_t c = 0; c < from.channels; ++c) {
                        const auto i = static_cast<size_t>(c);
                        put(out, to.type, c, fmaf((get(in, from.type, c) - mean) * inverse, (*weight)[i], (*bias)[i]));
                      }
                    });
  });
}

int32_t comneck_plan_attention(comneck_plan *plan, const comneck_view *qkv, int32_t heads, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_values(*plan, qkv, "qkv"));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(check_tokens(*qkv, *destination));
    if (positions_of(*qkv) != positions_of(*destination) || qkv->channels != 3 * int64_t{destination->channels} || heads < 1 ||
        destination->channels % heads != 0) {
      return fail(COMNECK_MISUSE, "attention of %d heads from %s to %s", heads, ViewText(*qkv).text, ViewText(*destination).text);
    }
    const int64_t tokens = positions_of(*qkv);
    const int32_t depth = destination->channels / heads;
    plan->need_scratch(plan->threads() * (tokens + depth) * 4);
    const auto scale = static_cast<float>(1.0 / sqrt(static_cast<double>(depth)));
    auto body = [from = *qkv, to = *destination, heads, tokens, depth, scale](const Execution &e, int64_t n, int64_t i, int32_t thread) {
      const int64_t t = i / heads;
      const auto head = static_cast<int32_t>(i % heads);
      auto *scores = reinterpret_cast<float *>(e.scratch) + thread * (tokens + depth);
      float *sums = scores + tokens;
      const int64_t element = element_bytes_of(from.type);
      const char *query = row_of(e, from, n, t) + head * depth * element;
      float most = -INFINITY;
      for (int64_t j = 0; j < tokens; ++j) {
        const char *key = row_of(e, from, n, j) + (to.channels + head * depth) * element;
        float score = 0.0f;
        for (int32_t d = 0; d < depth; ++d) score = fmaf(get(query, from.type, d), get(key, from.type, d), score);
        scores[j] = score * scale;
        most = scores[j] > most ? scores[j] : most;
      }
      float partial[16] = {};
      for (int64_t j = 0; j < tokens; ++j) {
        scores[j] = canonical::exp<Lane>(scores[j] - most);
        partial[j & 15] = partial[j & 15] + scores[j];
      }
      const float inverse = 1.0f / total(partial);
      std::fill_n(sums, depth, 0.0f);
      for (int64_t j = 0; j < tokens; ++j) {
        const char *value = row_of(e, from, n, j) + (2 * to.channels + head * depth) * element;
        for (int32_t d = 0; d < depth; ++d) sums[d] = fmaf(scores[j], get(value, from.type, d), sums[d]);
      }
      char *out = row_of(e, to, n, t) + head * depth * element_bytes_of(to.type);
      for (int32_t d = 0; d < depth; ++d) put(out, to.type, d, sums[d] * inverse);
    };
    return plan->add(std::make_unique<Rows>(qkv->images, tokens * heads, tokens * depth, std::move(body)));
  });
}

int32_t comneck_plan_embed(comneck_plan *plan, const comneck_view *source, const float *class_token, int64_t class_token_bytes,
                           const float *positions, int64_t positions_bytes, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_values(*plan, source, "the source"));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(check_tokens(*source, *destination));
    const int64_t shift = class_token == nullptr ? 0 : 1;
    const int64_t bytes = int64_t{source->channels} * 4;
    const int64_t tokens = positions_of(*source) + shift;
    if (source->channels != destination->channels || positions_of(*destination) != tokens || class_token_bytes != shift * bytes ||
        positions == nullptr || positions_bytes != tokens * bytes) {
      return fail(COMNECK_MISUSE, "%s does not become %s with a table of %lld bytes", ViewText(*source).text,
                  ViewText(*destination).text, static_cast<long long>(positions_bytes));
    }
    return add_rows(*plan, *destination,
                    [from = *source, to = *destination, shift, token = keep(class_token, class_token_bytes),
                     table = keep(positions, positions_bytes)](const Execution &e, int64_t n, int64_t p, int32_t) {
                      const char *in = p < shift ? reinterpret_cast<const char *>(token->data()) : row_of(e, from, n, p - shift);
                      const int32_t type = p < shift ? static_cast<int32_t>(COMNECK_F32) : from.type;
                      const float *place = table->data() + p * to.channels;
                      char *out = row_of(e, to, n, p);
                      for (int32_t c = 0; c < to.channels; ++c) put(out, to.type, c, get(in, type, c) + place[c]);
                    });
  });
}

int32_t comneck_plan_select_tokens(comneck_plan *plan, const comneck_view *source, int32_t first, const comneck_view *destination) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_values(*plan, source, "the source"));
    COMNECK_CHECK(check_values(*plan, destination, "the destination"));
    COMNECK_CHECK(check_tokens(*source, *destination));
    if (source->channels != destination->channels || first < 0 || first + positions_of(*destination) > positions_of(*source)) {
      return fail(COMNECK_MISUSE, "tokens from %d on of %s as %s", first, ViewText(*source).text, ViewText(*destination).text);
    }
    return add_rows(*plan, *destination, [from = *source, to = *destination, first](const Execution &e, int64_t n, int64_t p, int32_t) {
      const char *in = row_of(e, from, n, first + p);
      char *out = row_of(e, to, n, p);
      for (int32_t c = 0; c < to.channels; ++c) put(out, to.type, c, get(in, from.type, c));
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
    return add_rows(*plan, *destination,
                    [from = *pixels, to = *destination, mean = keep(mean, mean_bytes),
                     deviation = keep(deviation, deviation_bytes)](const Execution &e, int64_t n, int64_t p, int32_t) {
                      const auto *in = reinterpret_cast<const unsigned char *>(row_of(e, from, n, p));
                      char *out = row_of(e, to, n, p);
                      for (int32_t c = 0; c < to.channels; ++c) {
                        const auto i = static_cast<size_t>(c);
                        put(out, to.type, c, (static_cast<float>(in[c]) / 255.0f - (*mean)[i]) / (*deviation)[i]);
                      }
                    });
  });
}

int32_t comneck_plan_to_pixels(comneck_plan *plan, const comneck_view *source, const comneck_view *pixels) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_values(*plan, source, "the source"));
    COMNECK_CHECK(plan->check_view(pixels, "the pixels", COMNECK_U8));
    COMNECK_CHECK(check_same(*source, *pixels));
    return add_rows(*plan, *pixels, [from = *source, to = *pixels](const Execution &e, int64_t n, int64_t p, int32_t) {
      const char *in = row_of(e, from, n, p);
      auto *out = reinterpret_cast<unsigned char *>(row_of(e, to, n, p));
      for (int32_t c = 0; c < to.channels; ++c) {
        const float x = get(in, from.type, c);
        const float clamped = x > 0.0f ? std::min(x, 1.0f) : 0.0f;  // NaN gives 0
        out[c] = static_cast<unsigned char>(static_cast<int32_t>(clamped * 255.0f + 0.5f));
      }
    });
  });
}
