// The C functions of coding tables, of the rANS encoder and decoder, and of the plan's coding steps.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "backend/context.h"
#include "backend/plan.h"
#include "backend/status.h"
#include "comneck.h"
#include "entropy/payloads.h"
#include "entropy/quantize.h"
#include "entropy/rans_decoder.h"
#include "entropy/rans_encoder.h"
#include "entropy/rans_tables.h"

using namespace comneck;

struct comneck_tables {
  RansTables packed;
};

struct comneck_rans_encoder {
  RansEncoder encoder;
  std::vector<RansPass> passes;
};

struct comneck_rans_decoder {
  explicit comneck_rans_decoder(int32_t isa) : decoder(isa) {}
  RansDecoder decoder;
};

static_assert(sizeof(comneck_rans_pass) == 48);

#define COMNECK_CHECK(call)                                                 \
  do {                                                                      \
    if (const int32_t failed = (call); failed != COMNECK_OK) return failed; \
  } while (0)

namespace {

// Every index must have a table.
int32_t check_indices(const RansTables &tables, const uint8_t *indices, int64_t count) {
  if (count == 0) return COMNECK_OK;
  const uint8_t *largest = std::max_element(indices, indices + count);
  if (*largest < tables.tables) return COMNECK_OK;
  return fail(COMNECK_MISUSE, "index %d at symbol %lld, but there are %d tables", *largest,
              static_cast<long long>(largest - indices), tables.tables);
}

int32_t copy_damage(const RansDecoder &decoder, char *text, int64_t text_bytes, int64_t *offset) {
  if (text == nullptr || text_bytes < 1 || offset == nullptr) return fail(COMNECK_MISUSE, "no room for what is damaged");
  std::snprintf(text, static_cast<size_t>(text_bytes), "%s", decoder.damage());
  *offset = decoder.damage_offset();
  return COMNECK_OK;
}

}  // namespace

int32_t comneck_tables_create(int32_t tables, const int32_t *shift, int64_t shift_bytes, const int32_t *first, int64_t first_bytes,
                              const int32_t *count, int64_t count_bytes, const int32_t *frequency, int64_t frequency_bytes,
                              comneck_tables **out) {
  return guarded([&]() -> int32_t {
    const int64_t bytes = int64_t{4} * tables;
    if (out == nullptr || shift == nullptr || first == nullptr || count == nullptr || frequency == nullptr || tables < 1 ||
        shift_bytes != bytes || first_bytes != bytes || count_bytes != bytes || frequency_bytes != bytes * kTableSymbols) {
      return fail(COMNECK_MISUSE, "%d coding tables without all of their parts", tables);
    }
    auto made = std::make_unique<comneck_tables>();
    COMNECK_CHECK(pack_tables(tables, shift, first, count, frequency, &made->packed));
    *out = made.release();
    return COMNECK_OK;
  });
}

void comneck_tables_destroy(comneck_tables *tables) { delete tables; }

int32_t comneck_rans_encoder_create(comneck_rans_encoder **encoder) {
  return guarded([&]() -> int32_t {
    if (encoder == nullptr) return fail(COMNECK_MISUSE, "no place for the encoder");
    *encoder = new comneck_rans_encoder();
    return COMNECK_OK;
  });
}

int32_t comneck_rans_encode(comneck_rans_encoder *encoder, const comneck_rans_pass *passes, int64_t passes_bytes,
                            int32_t substreams, const void **payload, int64_t *payload_bytes, int32_t *symbol_checksum) {
  return guarded([&]() -> int32_t {
    constexpr int64_t kPassBytes = sizeof(comneck_rans_pass);
    if (encoder == nullptr || payload == nullptr || payload_bytes == nullptr || symbol_checksum == nullptr || passes_bytes < 0 ||
        passes_bytes % kPassBytes != 0 || (passes == nullptr && passes_bytes > 0)) {
      return fail(COMNECK_MISUSE, "an encoder's call without its parts");
    }
    if (substreams < 0 || substreams > kMaxSubstreams) return fail(COMNECK_MISUSE, "%d substreams, not 1 to %d", substreams, kMaxSubstreams);
    encoder->passes.clear();
    for (int64_t p = 0; p < passes_bytes / kPassBytes; p++) {
      const comneck_rans_pass &pass = passes[p];
      if (pass.tables == nullptr || pass.count < 0 || pass.indices_bytes < pass.count || pass.values_bytes / 2 < pass.count ||
          (pass.count > 0 && (pass.indices == nullptr || pass.values == nullptr))) {
        return fail(COMNECK_MISUSE, "pass %lld of %lld symbols is shorter than that", static_cast<long long>(p),
                    static_cast<long long>(pass.count));
      }
      COMNECK_CHECK(check_indices(pass.tables->packed, pass.indices, pass.count));
      encoder->passes.push_back({&pass.tables->packed, pass.indices, pass.values, pass.count});
    }
    encoder->encoder.encode(encoder->passes.data(), static_cast<int32_t>(encoder->passes.size()), substreams);
    *payload = encoder->encoder.payload().data();
    *payload_bytes = static_cast<int64_t>(encoder->encoder.payload().size());
    *symbol_checksum = static_cast<int32_t>(encoder->encoder.symbol_checksum());
    return COMNECK_OK;
  });
}

void comneck_rans_encoder_destroy(comneck_rans_encoder *encoder) { delete encoder; }

int32_t comneck_rans_decoder_create(const comneck_context *context, comneck_rans_decoder **decoder) {
  return guarded([&]() -> int32_t {
    if (context == nullptr || decoder == nullptr) return fail(COMNECK_MISUSE, "no context");
    *decoder = new comneck_rans_decoder(context->isa);
    return COMNECK_OK;
  });
}

int32_t comneck_rans_start(comneck_rans_decoder *decoder, const void *payload, int64_t payload_bytes) {
  return guarded([&]() -> int32_t {
    if (decoder == nullptr || payload_bytes < 0 || (payload == nullptr && payload_bytes > 0)) return fail(COMNECK_MISUSE, "no payload");
    return decoder->decoder.start(static_cast<const uint8_t *>(payload), payload_bytes);
  });
}

int32_t comneck_rans_decode(comneck_rans_decoder *decoder, const comneck_tables *tables, const uint8_t *indices,
                            int64_t indices_bytes, int16_t *symbols, int64_t symbols_bytes) {
  return guarded([&]() -> int32_t {
    if (decoder == nullptr || tables == nullptr || indices_bytes < 0 || symbols_bytes != 2 * indices_bytes ||
        (indices_bytes > 0 && (indices == nullptr || symbols == nullptr))) {
      return fail(COMNECK_MISUSE, "%lld indices for %lld bytes of symbols", static_cast<long long>(indices_bytes),
                  static_cast<long long>(symbols_bytes));
    }
    COMNECK_CHECK(check_indices(tables->packed, indices, indices_bytes));
    return decoder->decoder.decode(tables->packed, indices, symbols, indices_bytes);
  });
}

int32_t comneck_rans_finish(comneck_rans_decoder *decoder, int32_t symbol_checksum) {
  if (decoder == nullptr) return fail(COMNECK_MISUSE, "no decoder");
  return decoder->decoder.finish(static_cast<uint32_t>(symbol_checksum));
}

int32_t comneck_rans_damage(const comneck_rans_decoder *decoder, char *text, int64_t text_bytes, int64_t *offset) {
  if (decoder == nullptr) return fail(COMNECK_MISUSE, "no decoder");
  return copy_damage(decoder->decoder, text, text_bytes, offset);
}

void comneck_rans_decoder_destroy(comneck_rans_decoder *decoder) { delete decoder; }

// ------------------------------------------------------------------------------------------------------------ steps

namespace {

template <class T>
T *row(const Execution &execution, const comneck_view &view, int64_t image, int64_t position) {
  return reinterpret_cast<T *>(at(execution, view)) + (image * positions_of(view) + position) * view.channel_stride;
}

// Position in the full grid of each position of a half grid.
std::vector<int64_t> full_positions(const comneck_view &view) {
  std::vector<int64_t> all;
  all.reserve(static_cast<size_t>(positions_of(view)));
  for (int32_t y = 0; y < view.height; y++) {
    for (int32_t x = 0; x < view.width; x++) {
      const bool odd = ((x + y) & 1) != 0;
      if (view.grid == COMNECK_FULL || odd == (view.grid == COMNECK_NON_ANCHORS)) all.push_back(int64_t{y} * view.width + x);
    }
  }
  return all;
}

std::vector<float> copied(const float *values, int64_t bytes) { return {values, values + bytes / 4}; }

int32_t check_factorized(comneck_plan &plan, const comneck_view *symbols, const comneck_view *z_hat, const float *medians,
                         int64_t medians_bytes) {
  COMNECK_CHECK(plan.check_view(symbols, "the symbols", COMNECK_I16));
  COMNECK_CHECK(plan.check_view(z_hat, "z_hat", COMNECK_F32));
  if (!same_shape(*symbols, *z_hat)) {
    return fail(COMNECK_MISUSE, "symbols %s and z_hat %s should have one shape", ViewText(*symbols).text, ViewText(*z_hat).text);
  }
  if (medians == nullptr || medians_bytes != int64_t{4} * z_hat->channels) {
    return fail(COMNECK_MISUSE, "%lld bytes of medians for %s", static_cast<long long>(medians_bytes), ViewText(*z_hat).text);
  }
  return COMNECK_OK;
}

int32_t check_gaussian(comneck_plan &plan, const comneck_view *parameters, const comneck_view *symbols, const comneck_view *y_hat,
                       const float *thresholds, int64_t thresholds_bytes) {
  COMNECK_CHECK(plan.check_view(parameters, "the parameters", COMNECK_F32));
  COMNECK_CHECK(plan.check_view(symbols, "the symbols", COMNECK_I16));
  COMNECK_CHECK(plan.check_view(y_hat, "y_hat", COMNECK_F32));
  comneck_view halved = *parameters;
  halved.channels /= 2;
  comneck_view full = *y_hat;
  full.grid = parameters->grid;
  if (parameters->channels % 2 != 0 || !same_shape(halved, *symbols) || y_hat->grid != COMNECK_FULL || !same_shape(full, *symbols)) {
    return fail(COMNECK_MISUSE, "parameters %s, symbols %s and y_hat %s do not fit", ViewText(*parameters).text,
                ViewText(*symbols).text, ViewText(*y_hat).text);
  }
  if (thresholds == nullptr || thresholds_bytes < 4 || thresholds_bytes > 255 * 4 || thresholds_bytes % 4 != 0 ||
      !std::is_sorted(thresholds, thresholds + thresholds_bytes / 4)) {
    return fail(COMNECK_MISUSE, "%lld bytes of thresholds: 1 to 255 ascending ones are needed", static_cast<long long>(thresholds_bytes));
  }
  return COMNECK_OK;
}

int32_t check_payloads(const comneck_plan &plan, const comneck_tables *tables, int32_t needed, const comneck_view &symbols) {
  if (plan.payloads == nullptr || plan.payloads->images() != symbols.images) {
    return fail(COMNECK_MISUSE, "symbols %s, but %d payloads", ViewText(symbols).text,
                plan.payloads == nullptr ? 0 : plan.payloads->images());
  }
  if (tables == nullptr || tables->packed.tables < needed) {
    return fail(COMNECK_MISUSE, "%d coding tables, needed are %d", tables == nullptr ? 0 : tables->packed.tables, needed);
  }
  return COMNECK_OK;
}

class QuantizeFactorized final : public Step {
 public:
  QuantizeFactorized(const QuantizeKernels &kernels, const comneck_view &z, std::vector<float> medians, const comneck_view &symbols,
                     const comneck_view &z_hat)
      : kernels_(kernels), z_(z), medians_(std::move(medians)), symbols_(symbols), z_hat_(z_hat) {}

  void execute(const Execution &execution) const override {
    const int64_t positions = positions_of(z_);
    execution.pool.run(positions * z_.images, [&](int64_t i, int32_t) {
      const int64_t image = i / positions;
      const int64_t position = i % positions;
      kernels_.quantize(row<float>(execution, z_, image, position), medians_.data(), row<int16_t>(execution, symbols_, image, position),
                        row<float>(execution, z_hat_, image, position), z_.channels);
    });
  }

 private:
  const QuantizeKernels &kernels_;
  comneck_view z_;
  std::vector<float> medians_;
  comneck_view symbols_;
  comneck_view z_hat_;
};

class QuantizeGaussian final : public Step {
 public:
  QuantizeGaussian(const QuantizeKernels &kernels, const comneck_view &y, const comneck_view &parameters,
                   std::vector<float> thresholds, const comneck_view &indices, const comneck_view &symbols, const comneck_view &y_hat)
      : kernels_(kernels),
        y_(y),
        parameters_(parameters),
        thresholds_(std::move(thresholds)),
        indices_(indices),
        symbols_(symbols),
        y_hat_(y_hat),
        full_(full_positions(parameters)) {}

  void execute(const Execution &execution) const override {
    const int64_t positions = static_cast<int64_t>(full_.size());
    execution.pool.run(positions * y_.images, [&](int64_t i, int32_t) {
      const int64_t image = i / positions;
      const int64_t position = i % positions;
      const int64_t full = full_[static_cast<size_t>(position)];
      const float *mean = row<float>(execution, parameters_, image, position);
      kernels_.indices(mean + symbols_.channels, thresholds_.data(), static_cast<int32_t>(thresholds_.size()),
                       row<uint8_t>(execution, indices_, image, position), symbols_.channels);
      kernels_.quantize(row<float>(execution, y_, image, full), mean, row<int16_t>(execution, symbols_, image, position),
                        row<float>(execution, y_hat_, image, full), symbols_.channels);
    });
  }

 private:
  const QuantizeKernels &kernels_;
  comneck_view y_;
  comneck_view parameters_;
  std::vector<float> thresholds_;
  comneck_view indices_;
  comneck_view symbols_;
  comneck_view y_hat_;
  std::vector<int64_t> full_;
};

class StartPayloads final : public Step {
 public:
  explicit StartPayloads(std::shared_ptr<Payloads> payloads) : payloads_(std::move(payloads)) {}
  void execute(const Execution &) const override {
    for (int64_t i = 0; i < payloads_->images(); i++) payloads_->start(i);
  }

 private:
  std::shared_ptr<Payloads> payloads_;
};

class FinishPayloads final : public Step {
 public:
  explicit FinishPayloads(std::shared_ptr<Payloads> payloads) : payloads_(std::move(payloads)) {}
  void execute(const Execution &) const override {
    for (int64_t i = 0; i < payloads_->images(); i++) payloads_->finish(i);
  }

 private:
  std::shared_ptr<Payloads> payloads_;
};

// Bytes that an image's pass needs while it is decoded: its indices, then its symbols.
int64_t pass_bytes(int64_t count) { return (count + 63) / 64 * 64 + (2 * count + 63) / 64 * 64; }

class DecodeFactorized final : public Step {
 public:
  DecodeFactorized(const QuantizeKernels &kernels, std::shared_ptr<Payloads> payloads, const RansTables &tables,
                   std::vector<float> medians, const comneck_view &symbols, const comneck_view &z_hat)
      : kernels_(kernels),
        payloads_(std::move(payloads)),
        tables_(tables),
        medians_(std::move(medians)),
        symbols_(symbols),
        z_hat_(z_hat),
        indices_(static_cast<size_t>(positions_of(z_hat) * z_hat.channels)) {
    for (size_t i = 0; i < indices_.size(); i++) indices_[i] = static_cast<uint8_t>(i % static_cast<size_t>(z_hat.channels));
  }

  void execute(const Execution &execution) const override {
    const int64_t channels = z_hat_.channels;
    const int64_t count = static_cast<int64_t>(indices_.size());
    execution.pool.run(z_hat_.images, [&](int64_t image, int32_t thread) {
      int16_t *decoded = reinterpret_cast<int16_t *>(execution.scratch + thread * pass_bytes(count));
      payloads_->decode(image, tables_, indices_.data(), decoded, count);
      for (int64_t position = 0; position < positions_of(z_hat_); position++, decoded += channels) {
        std::memcpy(row<int16_t>(execution, symbols_, image, position), decoded, static_cast<size_t>(2 * channels));
        kernels_.dequantize(decoded, medians_.data(), row<float>(execution, z_hat_, image, position), channels);
      }
    });
  }

 private:
  const QuantizeKernels &kernels_;
  std::shared_ptr<Payloads> payloads_;
  const RansTables &tables_;
  std::vector<float> medians_;
  comneck_view symbols_;
  comneck_view z_hat_;
  std::vector<uint8_t> indices_;
};

class DecodeGaussian final : public Step {
 public:
  DecodeGaussian(const QuantizeKernels &kernels, std::shared_ptr<Payloads> payloads, const RansTables &tables,
                 const comneck_view &parameters, std::vector<float> thresholds, const comneck_view &symbols, const comneck_view &y_hat)
      : kernels_(kernels),
        payloads_(std::move(payloads)),
        tables_(tables),
        parameters_(parameters),
        thresholds_(std::move(thresholds)),
        symbols_(symbols),
        y_hat_(y_hat),
        full_(full_positions(parameters)) {}

  void execute(const Execution &execution) const override {
    const int64_t channels = symbols_.channels;
    const int64_t positions = static_cast<int64_t>(full_.size());
    const int64_t count = positions * channels;
    execution.pool.run(symbols_.images, [&](int64_t image, int32_t thread) {
      char *scratch = execution.scratch + thread * pass_bytes(count);
      uint8_t *indices = reinterpret_cast<uint8_t *>(scratch);
      int16_t *decoded = reinterpret_cast<int16_t *>(scratch + (count + 63) / 64 * 64);
      for (int64_t position = 0; position < positions; position++) {
        kernels_.indices(row<float>(execution, parameters_, image, position) + channels, thresholds_.data(),
                         static_cast<int32_t>(thresholds_.size()), indices + position * channels, channels);
      }
      payloads_->decode(image, tables_, indices, decoded, count);
      for (int64_t position = 0; position < positions; position++, decoded += channels) {
        std::memcpy(row<int16_t>(execution, symbols_, image, position), decoded, static_cast<size_t>(2 * channels));
        kernels_.dequantize(decoded, row<float>(execution, parameters_, image, position),
                            row<float>(execution, y_hat_, image, full_[static_cast<size_t>(position)]), channels);
      }
    });
  }

 private:
  const QuantizeKernels &kernels_;
  std::shared_ptr<Payloads> payloads_;
  const RansTables &tables_;
  comneck_view parameters_;
  std::vector<float> thresholds_;
  comneck_view symbols_;
  comneck_view y_hat_;
  std::vector<int64_t> full_;
};

}  // namespace

int32_t comneck_plan_quantize_factorized(comneck_plan *plan, const comneck_view *z, const float *medians, int64_t medians_bytes,
                                         const comneck_view *symbols, const comneck_view *z_hat) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_factorized(*plan, symbols, z_hat, medians, medians_bytes));
    COMNECK_CHECK(plan->check_view(z, "z", COMNECK_F32));
    if (!same_shape(*z, *z_hat)) return fail(COMNECK_MISUSE, "z %s and z_hat %s", ViewText(*z).text, ViewText(*z_hat).text);
    return plan->add(std::make_unique<QuantizeFactorized>(quantize_kernels(plan->context->isa), *z, copied(medians, medians_bytes),
                                                          *symbols, *z_hat));
  });
}

int32_t comneck_plan_quantize_gaussian(comneck_plan *plan, const comneck_view *y, const comneck_view *parameters,
                                       const float *thresholds, int64_t thresholds_bytes, const comneck_view *indices,
                                       const comneck_view *symbols, const comneck_view *y_hat) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_gaussian(*plan, parameters, symbols, y_hat, thresholds, thresholds_bytes));
    COMNECK_CHECK(plan->check_view(y, "y", COMNECK_F32));
    COMNECK_CHECK(plan->check_view(indices, "the indices", COMNECK_U8));
    if (!same_shape(*y, *y_hat) || !same_shape(*indices, *symbols)) {
      return fail(COMNECK_MISUSE, "y %s and indices %s for symbols %s", ViewText(*y).text, ViewText(*indices).text,
                  ViewText(*symbols).text);
    }
    return plan->add(std::make_unique<QuantizeGaussian>(quantize_kernels(plan->context->isa), *y, *parameters,
                                                        copied(thresholds, thresholds_bytes), *indices, *symbols, *y_hat));
  });
}

int32_t comneck_plan_payloads(comneck_plan *plan, int32_t images) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr || plan->sealed) return fail(COMNECK_MISUSE, "no plan that could take payloads");
    if (plan->payloads != nullptr || images < 1) return fail(COMNECK_MISUSE, "%d payloads, or for the second time", images);
    plan->payloads = std::make_shared<Payloads>(images, plan->context->isa);
    return plan->add(std::make_unique<StartPayloads>(plan->payloads));
  });
}

int32_t comneck_plan_decode_factorized(comneck_plan *plan, const comneck_tables *tables, const float *medians, int64_t medians_bytes,
                                       const comneck_view *symbols, const comneck_view *z_hat) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_factorized(*plan, symbols, z_hat, medians, medians_bytes));
    COMNECK_CHECK(check_payloads(*plan, tables, z_hat->channels, *symbols));
    plan->need_scratch(plan->threads() * pass_bytes(positions_of(*z_hat) * z_hat->channels));
    return plan->add(std::make_unique<DecodeFactorized>(quantize_kernels(plan->context->isa), plan->payloads, tables->packed,
                                                        copied(medians, medians_bytes), *symbols, *z_hat));
  });
}

int32_t comneck_plan_decode_gaussian(comneck_plan *plan, const comneck_tables *tables, const comneck_view *parameters,
                                     const float *thresholds, int64_t thresholds_bytes, const comneck_view *symbols,
                                     const comneck_view *y_hat) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr) return fail(COMNECK_MISUSE, "no plan");
    COMNECK_CHECK(check_gaussian(*plan, parameters, symbols, y_hat, thresholds, thresholds_bytes));
    COMNECK_CHECK(check_payloads(*plan, tables, static_cast<int32_t>(thresholds_bytes / 4) + 1, *symbols));
    plan->need_scratch(plan->threads() * pass_bytes(positions_of(*parameters) * symbols->channels));
    return plan->add(std::make_unique<DecodeGaussian>(quantize_kernels(plan->context->isa), plan->payloads, tables->packed,
                                                      *parameters, copied(thresholds, thresholds_bytes), *symbols, *y_hat));
  });
}

int32_t comneck_plan_finish_payloads(comneck_plan *plan) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr || plan->payloads == nullptr) return fail(COMNECK_MISUSE, "no payloads that could end");
    return plan->add(std::make_unique<FinishPayloads>(plan->payloads));
  });
}

int32_t comneck_plan_payload(comneck_plan *plan, int32_t image, const void *payload, int64_t payload_bytes,
                             int32_t symbol_checksum) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr || plan->payloads == nullptr || image < 0 || image >= plan->payloads->images()) {
      return fail(COMNECK_MISUSE, "no payload of image %d was declared", image);
    }
    if (payload_bytes < 0 || (payload == nullptr && payload_bytes > 0)) return fail(COMNECK_MISUSE, "no payload");
    plan->payloads->set(image, static_cast<const uint8_t *>(payload), payload_bytes, static_cast<uint32_t>(symbol_checksum));
    return COMNECK_OK;
  });
}

int32_t comneck_plan_damage(const comneck_plan *plan, int32_t image, char *text, int64_t text_bytes, int64_t *offset) {
  if (plan == nullptr || plan->payloads == nullptr || image < 0 || image >= plan->payloads->images()) {
    return fail(COMNECK_MISUSE, "no payload of image %d was declared", image);
  }
  return copy_damage(plan->payloads->decoder(image), text, text_bytes, offset);
}
