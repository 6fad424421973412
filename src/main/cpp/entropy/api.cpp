// The C functions of coding tables and of the rANS decoder.
#include "entropy/api.h"

#include <algorithm>
#include <memory>

#include "backend/view.h"

using namespace comneck;

static_assert(sizeof(comneck_rans_pass) == 48);

namespace {

// Every index must have a table.
int32_t check_indices(const RansTables &tables, const uint8_t *indices, int64_t count) {
  if (count == 0) return COMNECK_OK;
  const uint8_t *largest = std::max_element(indices, indices + count);
  if (*largest < tables.tables) return COMNECK_OK;
  return fail(COMNECK_MISUSE, "index %d at symbol %lld, but there are %d tables", *largest,
              static_cast<long long>(largest - indices), tables.tables);
}

}  // namespace

namespace comneck {

int32_t check_passes(const comneck_rans_pass *passes, int64_t passes_bytes, int32_t substreams, std::vector<RansPass> *checked) {
  constexpr int64_t kPassBytes = sizeof(comneck_rans_pass);
  if (passes_bytes < 0 || passes_bytes % kPassBytes != 0 || (passes == nullptr && passes_bytes > 0)) {
    return fail(COMNECK_MISUSE, "%lld bytes are no list of passes", static_cast<long long>(passes_bytes));
  }
  if (substreams < 0 || substreams > kMaxSubstreams) return fail(COMNECK_MISUSE, "%d substreams, not 1 to %d", substreams, kMaxSubstreams);
  checked->clear();
  for (int64_t p = 0; p < passes_bytes / kPassBytes; p++) {
    const comneck_rans_pass &pass = passes[p];
    if (pass.tables == nullptr || pass.count < 0 || pass.indices_bytes < pass.count || pass.values_bytes / 2 < pass.count ||
        (pass.count > 0 && (pass.indices == nullptr || pass.values == nullptr))) {
      return fail(COMNECK_MISUSE, "pass %lld of %lld symbols is shorter than that", static_cast<long long>(p),
                  static_cast<long long>(pass.count));
    }
    COMNECK_CHECK(check_indices(pass.tables->packed, pass.indices, pass.count));
    checked->push_back({&pass.tables->packed, pass.indices, pass.values, pass.count});
  }
  return COMNECK_OK;
}

int32_t check_encode(const comneck_tables *const *tables, const comneck_view *symbols, const comneck_view *indices, int32_t pass_count,
                     int32_t substreams, int64_t *reach) {
  if (tables == nullptr || symbols == nullptr || indices == nullptr || pass_count < 1 || pass_count > 4096) {
    return fail(COMNECK_MISUSE, "%d passes to encode", pass_count);
  }
  if (substreams < 0 || substreams > kMaxSubstreams) return fail(COMNECK_MISUSE, "%d substreams, not 1 to %d", substreams, kMaxSubstreams);
  int64_t count = 0;
  for (int32_t p = 0; p < pass_count; p++) {
    const comneck_view &values = symbols[p];
    const bool indexed = indices[p].channel_stride != 0;
    COMNECK_CHECK(check_view(&values, "the symbols", COMNECK_I16, COMNECK_I16, reach));
    if (indexed) COMNECK_CHECK(check_view(&indices[p], "the indices", COMNECK_U8, COMNECK_U8, reach));
    const auto whole = [](const comneck_view &view) { return view.channel_offset == 0 && view.channel_stride == view.channels; };
    if (tables[p] == nullptr || !whole(values) || values.images != symbols[0].images ||
        (indexed && (!whole(indices[p]) || !same_shape(values, indices[p])))) {
      return fail(COMNECK_MISUSE, "pass %d encodes %s without tables, with indices of another shape, or a slice", p, ViewText(values).text);
    }
    if (!indexed && values.channels > tables[p]->packed.tables) {
      return fail(COMNECK_MISUSE, "pass %d: %d channels, but %d coding tables", p, values.channels, tables[p]->packed.tables);
    }
    count += positions_of(values) * values.channels;
    if (count > INT32_MAX / 2) return fail(COMNECK_MISUSE, "%lld symbols in an image", static_cast<long long>(count));
  }
  return COMNECK_OK;
}

std::vector<uint8_t> channel_indices(const comneck_view &symbols) {
  std::vector<uint8_t> indices(static_cast<size_t>(positions_of(symbols) * symbols.channels));
  for (size_t i = 0; i < indices.size(); i++) indices[i] = static_cast<uint8_t>(i % static_cast<size_t>(symbols.channels));
  return indices;
}

}  // namespace comneck

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
  return copy_damage(decoder->decoder.damage(), decoder->decoder.damage_offset(), text, text_bytes, offset);
}

void comneck_rans_decoder_destroy(comneck_rans_decoder *decoder) { delete decoder; }
