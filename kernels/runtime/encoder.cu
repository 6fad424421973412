// The C functions of the rANS encoder, on a device: one image a call, one launch, one wait.
#include <algorithm>
#include <cstring>

#include "entropy/api.h"
#include "rans_encode/rans_encode.h"
#include "runtime/plan.h"

using namespace comneck;
using namespace comneck::cuda;

struct comneck_rans_encoder {
  explicit comneck_rans_encoder(const comneck_context *owner) : context(owner) {}
  ~comneck_rans_encoder() {
    if (stream != nullptr) (void)cudaStreamDestroy(stream);
  }

  int32_t encode(int32_t substreams);
  int32_t encode_into(int32_t substreams, int64_t payload_room);

  const comneck_context *const context;
  cudaStream_t stream = nullptr;
  std::vector<RansPass> passes;
  std::vector<uint8_t> tables;
  std::vector<RansEncodePass> described;
  Allocation device{Allocation::Kind::kDevice};
  Allocation pinned{Allocation::Kind::kPinned};
  const RansEncoded *result = nullptr;  // in pinned memory
  const char *payload = nullptr;        // behind it
};

namespace {

// Offsets of parts, one after the other.
struct Parts {
  int64_t end = 0;
  int64_t add(int64_t bytes) {
    const int64_t at = end;
    end += (bytes + 255) / 256 * 256;
    return at;
  }
};

// A payload is rarely longer than this; one that is, is made a second time with room enough.
int64_t first_room(int64_t symbols) { return symbols / 2 + 4096; }

}  // namespace

int32_t comneck_rans_encoder::encode(int32_t substreams) {
  int64_t symbols = 0;
  for (const RansPass &pass : passes) symbols += pass.count;
  if (symbols > INT32_MAX / 2) return fail(COMNECK_MISUSE, "%lld symbols in an image", static_cast<long long>(symbols));
  COMNECK_CHECK(check_cuda(cudaSetDevice(context->device), "choosing the device"));
  COMNECK_CHECK(encode_into(substreams, first_room(symbols)));
  if (result->overflowed != 0) COMNECK_CHECK(encode_into(substreams, result->bytes));
  return COMNECK_OK;
}

int32_t comneck_rans_encoder::encode_into(int32_t substreams, int64_t payload_room) {
  RansEncodeCall call{};
  tables.clear();
  described.clear();
  // Device memory: passes | tables | values | indices | result | payload | scratch. Pinned memory is the same up to the scratch.
  for (const RansPass &pass : passes) {
    const auto same = std::find_if(passes.begin(), passes.end(), [&](const RansPass &other) { return other.tables == pass.tables; });
    const auto first = static_cast<size_t>(same - passes.begin());
    RansEncodePass one{};
    one.tables = first < described.size() ? described[first].tables : append_encode_tables(*pass.tables, &tables);
    one.count = static_cast<int32_t>(pass.count);
    one.first = call.symbols;
    call.symbols += pass.count;
    described.push_back(one);
  }
  call.image_count = 1;
  call.substreams = substreams;
  call.pass_count = static_cast<int32_t>(passes.size());
  call.tables_bytes = static_cast<int32_t>(tables.size());
  call.payload_room = payload_room;
  call.word_room = rans_encode_words(call.symbols, call.pass_count);
  call.side_room = rans_encode_side(payload_room);
  Parts parts;
  const int64_t at_passes = parts.add(static_cast<int64_t>(described.size() * sizeof(RansEncodePass)));
  const int64_t at_tables = parts.add(call.tables_bytes);
  const int64_t at_values = parts.add(2 * call.symbols);
  const int64_t at_indices = parts.add(call.symbols);
  const int64_t uploaded = parts.end;
  const int64_t at_result = parts.add(sizeof(RansEncoded));
  const int64_t at_payload = parts.add(payload_room);
  const int64_t shared = parts.end;
  const int64_t at_words = parts.add(2 * call.word_room);
  const int64_t at_side = parts.add(4 * call.side_room);
  if (pinned.bytes() < shared) COMNECK_CHECK(pinned.allocate(shared));
  if (device.bytes() < parts.end) COMNECK_CHECK(device.allocate(parts.end));

  char *host = pinned.data();
  char *memory = device.data();
  for (size_t p = 0; p < passes.size(); p++) {
    RansEncodePass &one = described[p];
    one.values = reinterpret_cast<const int16_t *>(memory + at_values) + one.first;
    one.indices = reinterpret_cast<const uint8_t *>(memory + at_indices) + one.first;
    if (one.count == 0) continue;
    std::memcpy(host + at_values + 2 * one.first, passes[p].values, 2 * static_cast<size_t>(one.count));
    std::memcpy(host + at_indices + one.first, passes[p].indices, static_cast<size_t>(one.count));
  }
  if (!described.empty()) std::memcpy(host + at_passes, described.data(), described.size() * sizeof(RansEncodePass));
  if (!tables.empty()) std::memcpy(host + at_tables, tables.data(), tables.size());
  call.passes = reinterpret_cast<const RansEncodePass *>(memory + at_passes);
  call.tables = reinterpret_cast<const uint8_t *>(memory + at_tables);
  call.payloads = reinterpret_cast<uint8_t *>(memory + at_payload);
  call.words = reinterpret_cast<uint16_t *>(memory + at_words);
  call.side = reinterpret_cast<uint32_t *>(memory + at_side);
  call.encoded = reinterpret_cast<RansEncoded *>(memory + at_result);
  COMNECK_CHECK(check_cuda(cudaMemcpyAsync(memory, host, static_cast<size_t>(uploaded), cudaMemcpyHostToDevice, stream), "uploading symbols"));
  COMNECK_CHECK(check_cuda(rans_encode(call, 1, stream), "encoding symbols"));
  COMNECK_CHECK(check_cuda(cudaMemcpyAsync(host + at_result, memory + at_result, static_cast<size_t>(shared - at_result),
                                           cudaMemcpyDeviceToHost, stream),
                           "downloading a payload"));
  COMNECK_CHECK(check_cuda(cudaStreamSynchronize(stream), "encoding symbols"));
  result = reinterpret_cast<const RansEncoded *>(host + at_result);
  payload = host + at_payload;
  return COMNECK_OK;
}

int32_t comneck_rans_encoder_create(const comneck_context *context, comneck_rans_encoder **encoder) {
  return guarded([&]() -> int32_t {
    if (context == nullptr || encoder == nullptr) return fail(COMNECK_MISUSE, "no context, or no place for the encoder");
    auto made = std::make_unique<comneck_rans_encoder>(context);
    COMNECK_CHECK(check_cuda(cudaSetDevice(context->device), "choosing the device"));
    COMNECK_CHECK(check_cuda(cudaStreamCreateWithFlags(&made->stream, cudaStreamNonBlocking), "making a stream"));
    *encoder = made.release();
    return COMNECK_OK;
  });
}

int32_t comneck_rans_encode(comneck_rans_encoder *encoder, const comneck_rans_pass *passes, int64_t passes_bytes, int32_t substreams,
                            const void **payload, int64_t *payload_bytes, int32_t *symbol_checksum) {
  return guarded([&]() -> int32_t {
    if (encoder == nullptr || payload == nullptr || payload_bytes == nullptr || symbol_checksum == nullptr) {
      return fail(COMNECK_MISUSE, "an encoder's call without its parts");
    }
    COMNECK_CHECK(check_passes(passes, passes_bytes, substreams, &encoder->passes));
    COMNECK_CHECK(encoder->encode(substreams));
    *payload = encoder->payload;
    *payload_bytes = encoder->result->bytes;
    *symbol_checksum = static_cast<int32_t>(encoder->result->checksum);
    return COMNECK_OK;
  });
}

void comneck_rans_encoder_destroy(comneck_rans_encoder *encoder) { delete encoder; }
