// The C functions of the rANS encoder; libcomneck_cuda has its own.
#include "entropy/api.h"

using namespace comneck;

struct comneck_rans_encoder {
  RansEncoder encoder;
  std::vector<RansPass> passes;
};

int32_t comneck_rans_encoder_create(const comneck_context *context, comneck_rans_encoder **encoder) {
  return guarded([&]() -> int32_t {
    if (context == nullptr || encoder == nullptr) return fail(COMNECK_MISUSE, "no context, or no place for the encoder");
    *encoder = new comneck_rans_encoder();
    return COMNECK_OK;
  });
}

int32_t comneck_rans_encode(comneck_rans_encoder *encoder, const comneck_rans_pass *passes, int64_t passes_bytes,
                            int32_t substreams, const void **payload, int64_t *payload_bytes, int32_t *symbol_checksum) {
  return guarded([&]() -> int32_t {
    if (encoder == nullptr || payload == nullptr || payload_bytes == nullptr || symbol_checksum == nullptr) {
      return fail(COMNECK_MISUSE, "an encoder's call without its parts");
    }
    COMNECK_CHECK(check_passes(passes, passes_bytes, substreams, &encoder->passes));
    encoder->encoder.encode(encoder->passes.data(), static_cast<int32_t>(encoder->passes.size()), substreams);
    *payload = encoder->encoder.payload().data();
    *payload_bytes = static_cast<int64_t>(encoder->encoder.payload().size());
    *symbol_checksum = static_cast<int32_t>(encoder->encoder.symbol_checksum());
    return COMNECK_OK;
  });
}

void comneck_rans_encoder_destroy(comneck_rans_encoder *encoder) { delete encoder; }
