// What stands behind the C handles of coding tables and decoders.
#ifndef COMNECK_ENTROPY_API_H
#define COMNECK_ENTROPY_API_H

#include <cstdio>
#include <vector>

#include "backend/status.h"
#include "comneck.h"
#include "entropy/rans_decoder.h"
#include "entropy/rans_encoder.h"
#include "entropy/rans_tables.h"

struct comneck_tables {
  comneck::RansTables packed;
};

struct comneck_rans_decoder {
  explicit comneck_rans_decoder(int32_t isa) : decoder(isa) {}
  comneck::RansDecoder decoder;
};

#define COMNECK_CHECK(call)                                                 \
  do {                                                                      \
    if (const int32_t failed = (call); failed != COMNECK_OK) return failed; \
  } while (0)

namespace comneck {

// Checks an encoder's passes: every index has a table, nothing is shorter than its count.
int32_t check_passes(const comneck_rans_pass *passes, int64_t passes_bytes, int32_t substreams, std::vector<RansPass> *checked);

// Checks what comneck_plan_encode is given. *reach becomes at least where the views end.
int32_t check_encode(const comneck_tables *const *tables, const comneck_view *symbols, const comneck_view *indices, int32_t pass_count,
                     int32_t substreams, int64_t *reach);

// Tables of a pass without indices, for one image: channel c has table c.
std::vector<uint8_t> channel_indices(const comneck_view &symbols);

inline int32_t not_executed() { return fail(COMNECK_MISUSE, "no execution has made a payload"); }
inline int32_t no_table(int32_t image) { return fail(COMNECK_MISUSE, "image %d: an index has no coding table", image); }

inline int32_t copy_damage(const char *message, int64_t at, char *text, int64_t text_bytes, int64_t *offset) {
  if (text == nullptr || text_bytes < 1 || offset == nullptr) return fail(COMNECK_MISUSE, "no room for what is damaged");
  std::snprintf(text, static_cast<size_t>(text_bytes), "%s", message);
  *offset = at;
  return COMNECK_OK;
}

}  // namespace comneck

#endif
