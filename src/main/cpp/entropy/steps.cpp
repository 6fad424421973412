// The plan's coding steps.
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "backend/context.h"
#include "backend/plan.h"
#include "entropy/api.h"
#include "entropy/encoded_images.h"
#include "entropy/payloads.h"
#include "entropy/quantize.h"

using namespace comneck;

int32_t comneck_rans_decoder_create(const comneck_context *context, comneck_rans_decoder **decoder) {
  return guarded([&]() -> int32_t {
    if (context == nullptr || decoder == nullptr) return fail(COMNECK_MISUSE, "no context");
    *decoder = new comneck_rans_decoder(context->isa);
    return COMNECK_OK;
  });
}

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
        indices_(channel_indices(z_hat)) {}

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

class Encode final : public Step {
 public:
  struct Pass {
    const RansTables &tables;
    comneck_view symbols;
    comneck_view indices;
    std::vector<uint8_t> channels;  // in place of absent indices
  };

  Encode(std::shared_ptr<EncodedImages> images, std::vector<Pass> passes, int32_t substreams)
      : images_(std::move(images)), passes_(std::move(passes)), substreams_(substreams) {}

  void execute(const Execution &execution) const override {
    execution.pool.run(images_->images(), [&](int64_t image, int32_t thread) {
      std::vector<RansPass> &described = images_->passes(thread);
      for (size_t p = 0; p < passes_.size(); p++) {
        const Pass &pass = passes_[p];
        const int64_t count = positions_of(pass.symbols) * pass.symbols.channels;
        const uint8_t *indices = pass.channels.data();
        if (pass.indices.channel_stride != 0) indices = row<uint8_t>(execution, pass.indices, image, 0);
        described[p] = {&pass.tables, indices, row<int16_t>(execution, pass.symbols, image, 0), count};
      }
      images_->encode(image, thread, substreams_);
    });
  }

 private:
  std::shared_ptr<EncodedImages> images_;
  std::vector<Pass> passes_;
  int32_t substreams_;
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
  const RansDecoder &decoder = plan->payloads->decoder(image);
  return copy_damage(decoder.damage(), decoder.damage_offset(), text, text_bytes, offset);
}

int32_t comneck_plan_encode(comneck_plan *plan, const comneck_tables *const *tables, const comneck_view *symbols,
                            const comneck_view *indices, int32_t pass_count, int32_t substreams) {
  return guarded([&]() -> int32_t {
    if (plan == nullptr || plan->sealed || plan->encoded != nullptr) return fail(COMNECK_MISUSE, "no plan that could encode, or for the second time");
    COMNECK_CHECK(check_encode(tables, symbols, indices, pass_count, substreams, &plan->reach));
    std::vector<Encode::Pass> passes;
    for (int32_t p = 0; p < pass_count; p++) {
      const bool indexed = indices[p].channel_stride != 0;
      passes.push_back({tables[p]->packed, symbols[p], indices[p], indexed ? std::vector<uint8_t>() : channel_indices(symbols[p])});
    }
    plan->encoded = std::make_shared<EncodedImages>(symbols[0].images, plan->threads(), pass_count);
    return plan->add(std::make_unique<Encode>(plan->encoded, std::move(passes), substreams));
  });
}

int32_t comneck_plan_encoded(const comneck_plan *plan, int32_t image, const void **payload, int64_t *payload_bytes,
                             int32_t *symbol_checksum) {
  if (plan == nullptr || plan->encoded == nullptr || image < 0 || image >= plan->encoded->images() || payload == nullptr ||
      payload_bytes == nullptr || symbol_checksum == nullptr) {
    return fail(COMNECK_MISUSE, "image %d is none that the plan encodes", image);
  }
  const EncodedImages::Image &it = plan->encoded->image(image);
  switch (it.outcome) {
    case EncodedImages::Outcome::kNothing: return not_executed();
    case EncodedImages::Outcome::kNoTable: return no_table(image);
    case EncodedImages::Outcome::kOutOfMemory: return fail(COMNECK_OUT_OF_MEMORY, "image %d: no memory for its payload", image);
    case EncodedImages::Outcome::kEncoded: break;
  }
  *payload = it.payload.data();
  *payload_bytes = static_cast<int64_t>(it.payload.size());
  *symbol_checksum = static_cast<int32_t>(it.checksum);
  return COMNECK_OK;
}
