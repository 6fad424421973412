#include "runtime/plan.h"

#include <algorithm>
#include <cstring>

#include "comneck_cuda.h"

namespace comneck::cuda {

namespace {

int32_t status_of(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation: return COMNECK_OUT_OF_MEMORY;
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidConfiguration:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchOutOfResources:
    case cudaErrorLaunchTimeout:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure: return COMNECK_LAUNCH_FAILED;
    case cudaErrorDevicesUnavailable:
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorHardwareStackError:
    case cudaErrorUnknown: return COMNECK_DEVICE_LOST;
    default: return COMNECK_INTERNAL;
  }
}

}  // namespace

int32_t check_cuda(cudaError_t error, const char *doing) {
  if (error == cudaSuccess) return COMNECK_OK;
  (void)cudaGetLastError();  // it is reported here and now
  return fail(status_of(error), "%s: %s (CUDA error %d)", doing, cudaGetErrorString(error), static_cast<int>(error));
}

int32_t Allocation::allocate(int64_t bytes) {
  release();
  if (bytes == 0) return COMNECK_OK;
  void *memory = nullptr;
  const auto size = static_cast<size_t>(bytes);
  char doing[80];
  std::snprintf(doing, sizeof doing, "allocating %lld bytes of %s memory", static_cast<long long>(bytes),
                kind_ == Kind::kDevice ? "device" : "pinned");
  if (const int32_t status = check_cuda(kind_ == Kind::kDevice ? cudaMalloc(&memory, size) : cudaMallocHost(&memory, size), doing);
      status != COMNECK_OK) {
    return status;
  }
  data_ = static_cast<char *>(memory);
  bytes_ = bytes;
  return COMNECK_OK;
}

void Allocation::release() {
  if (data_ != nullptr) (void)(kind_ == Kind::kDevice ? cudaFree(data_) : cudaFreeHost(data_));
  data_ = nullptr;
  bytes_ = 0;
}

namespace {

constexpr int64_t kAlignment = 256;  // of every part of device memory

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// For a payload that is encoded, at first: two bits a symbol, which few photos need. All of it is copied down.
int64_t first_room(int64_t symbols) { return aligned(symbols / 4 + 4096); }

}  // namespace
}  // namespace comneck::cuda

using namespace comneck;
using namespace comneck::cuda;

#define COMNECK_TRY(call)                                                   \
  do {                                                                      \
    if (const int32_t failed = (call); failed != COMNECK_OK) return failed; \
  } while (0)

comneck_plan::~comneck_plan() {
  drop_graph();
  for (cudaEvent_t event : boundaries) (void)cudaEventDestroy(event);
  if (stream != nullptr) (void)cudaStreamDestroy(stream);
}

int32_t comneck_plan::add(int32_t kind, Step step) {
  if (sealed) return fail(COMNECK_MISUSE, "a step added to a sealed plan");
  if (nanos.empty()) nanos.push_back(0);
  steps.push_back({std::move(step), kind, static_cast<int32_t>(nanos.size()) - 1, {}, 0});
  return COMNECK_OK;
}

void comneck_plan::replace_last(int32_t kind, Step vendor, int64_t bytes) {
  Entry &last = steps.back();
  last.own = std::move(last.step);
  last.own_kind = last.kind;
  last.step = std::move(vendor);
  last.kind = kind;
  workspace_bytes = std::max(workspace_bytes, bytes);
}

// What a library loads and allocates when it is first called happens here and not while a graph is captured.
void comneck_plan::try_vendor_steps() {
  const Queue where = queue();
  for (Entry &entry : steps) {
    if (!entry.own) continue;
    const bool works = entry.step(where) == cudaSuccess && cudaStreamSynchronize(stream) == cudaSuccess;
    if (!works) {
      (void)cudaGetLastError();  // an error that stays shows at the next call
      entry.step = std::move(entry.own);
      entry.kind = entry.own_kind;
    }
    entry.own = {};
  }
}

int64_t comneck_plan::constant(const void *data, int64_t bytes) {
  const auto offset = static_cast<int64_t>(constants.size());
  constants.resize(static_cast<size_t>(offset + aligned(bytes)));
  if (bytes > 0) std::memcpy(constants.data() + offset, data, static_cast<size_t>(bytes));
  return offset;
}

int32_t comneck_plan::seal(int64_t memory_bytes) {
  if (sealed) return fail(COMNECK_MISUSE, "the plan is sealed already");
  if (memory_bytes < reach) {
    return fail(COMNECK_MISUSE, "%lld bytes of memory, but the views reach to %lld", static_cast<long long>(memory_bytes),
                static_cast<long long>(reach));
  }
  int64_t host = 0;
  for (Port &port : ports) {
    if (port.offset > memory_bytes - port.bytes) return fail(COMNECK_MISUSE, "a port beyond the plan's memory");
    port.host = host;
    host += aligned(port.bytes);
  }
  COMNECK_TRY(check_cuda(cudaSetDevice(context->device), "choosing the device"));
  COMNECK_TRY(check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream"));
  COMNECK_TRY(memory.allocate(memory_bytes));
  COMNECK_TRY(constant_memory.allocate(static_cast<int64_t>(constants.size())));
  const auto images = static_cast<int64_t>(payloads.size());
  COMNECK_TRY(coded.allocate(2 * images * symbols));
  COMNECK_TRY(indices.allocate(images * most_symbols));
  COMNECK_TRY(port_staging.allocate(host));
  COMNECK_TRY(room_for_payloads());
  if (!encoded_passes.empty()) {
    address_encoded_passes();
    COMNECK_TRY(room_for_encoded(first_room(encode.symbols)));
  }
  COMNECK_TRY(workspace.allocate(workspace_bytes));
  try_vendor_steps();
  if (memory_bytes > 0) COMNECK_TRY(check_cuda(cudaMemsetAsync(memory.data(), 0, static_cast<size_t>(memory_bytes), stream), "clearing memory"));
  if (host > 0) std::memset(port_staging.data(), 0, static_cast<size_t>(host));
  if (!constants.empty()) {
    COMNECK_TRY(check_cuda(cudaMemcpyAsync(constant_memory.data(), constants.data(), constants.size(), cudaMemcpyHostToDevice, stream),
                           "uploading constants"));
  }
  COMNECK_TRY(check_cuda(cudaStreamSynchronize(stream), "preparing a run"));
  constants.clear();
  constants.shrink_to_fit();
  if (nanos.empty()) nanos.push_back(0);
  for (size_t i = 0; i <= nanos.size(); i++) {
    cudaEvent_t event = nullptr;
    COMNECK_TRY(check_cuda(cudaEventCreate(&event), "making an event"));
    boundaries.push_back(event);
  }
  sealed = true;
  if (payloads.empty() || finishes) capture();
  return COMNECK_OK;
}

// Images, then words, then bits, in device memory as in pinned memory. Grows by half when the payloads have grown.
int32_t comneck_plan::room_for_payloads() {
  if (payloads.empty()) return COMNECK_OK;
  int64_t bytes = 0;
  for (const Payload &payload : payloads) bytes += aligned(static_cast<int64_t>(payload.bytes.size()) + kBitPadding);
  const int64_t head = aligned(static_cast<int64_t>(payloads.size() * sizeof(RansImage)));
  // Words and bits take at most what the payload takes, each. At the start: a bit for each symbol.
  const bool fits = payload_memory.bytes() > 0 && payload_staging.bytes() == payload_memory.bytes() && words_offset + bytes <= bits_offset && bits_offset + bytes <= payload_memory.bytes();
  if (fits) return COMNECK_OK;
  drop_graph();  // it has the old addresses
  const int64_t room = aligned(std::max(bytes + bytes / 2, static_cast<int64_t>(payloads.size()) * (symbols / 8 + 4096)));
  words_offset = head;
  bits_offset = head + room;
  COMNECK_TRY(payload_memory.allocate(head + 2 * room));
  COMNECK_TRY(payload_staging.allocate(head + 2 * room));
  if (sealed) capture();
  return COMNECK_OK;
}

// Results, then payloads, in device memory as in pinned memory; words, then side bits, in scratch memory.
int32_t comneck_plan::room_for_encoded(int64_t payload_room) {
  if (encoded_passes.empty()) return COMNECK_OK;
  const int64_t images = encode.image_count;
  encode.payload_room = payload_room;  // also where it is not to be had: the next execution asks again
  encode.side_room = rans_encode_side(payload_room);
  const int64_t at_payloads = aligned(images * static_cast<int64_t>(sizeof(RansEncoded)));
  const int64_t bytes = at_payloads + images * payload_room;
  const int64_t at_side = aligned(2 * images * encode.word_room);
  const int64_t scratch = at_side + 4 * images * encode.side_room;
  if (encoded.bytes() == bytes && encoded_staging.bytes() == bytes && encode_scratch.bytes() == scratch) return COMNECK_OK;
  drop_graph();  // it has the old addresses
  COMNECK_TRY(encoded.allocate(bytes));
  COMNECK_TRY(encoded_staging.allocate(bytes));
  COMNECK_TRY(encode_scratch.allocate(scratch));
  encode.encoded = reinterpret_cast<RansEncoded *>(encoded.data());
  encode.payloads = reinterpret_cast<uint8_t *>(encoded.data() + at_payloads);
  encode.words = reinterpret_cast<uint16_t *>(encode_scratch.data());
  encode.side = reinterpret_cast<uint32_t *>(encode_scratch.data() + at_side);
  if (sealed) capture();
  return COMNECK_OK;
}

void comneck_plan::address_encoded_passes() {
  std::vector<RansEncodePass> described;
  int64_t first = 0;
  for (const EncodedPass &pass : encoded_passes) {
    RansEncodePass one{};
    one.tables = pass.tables;
    one.count = static_cast<int32_t>(positions_of(pass.symbols) * pass.symbols.channels);
    one.first = first;
    one.values = reinterpret_cast<const int16_t *>(memory.data() + pass.symbols.offset_bytes);
    one.values_stride = one.count;
    const bool indexed = pass.indices.channel_stride != 0;
    one.indices = reinterpret_cast<const uint8_t *>(indexed ? memory.data() + pass.indices.offset_bytes
                                                            : constant_memory.data() + pass.channel_indices);
    one.indices_stride = indexed ? one.count : 0;
    first += one.count;
    described.push_back(one);
  }
  std::memcpy(constants.data() + at_encoded_passes, described.data(), described.size() * sizeof(RansEncodePass));
  encode.passes = reinterpret_cast<const RansEncodePass *>(constant_memory.data() + at_encoded_passes);
  encode.tables = reinterpret_cast<const uint8_t *>(constant_memory.data() + at_encode_tables);
}

int32_t comneck_plan::download_encoded() {
  return check_cuda(cudaMemcpyAsync(encoded_staging.data(), encoded.data(), static_cast<size_t>(encoded.bytes()), cudaMemcpyDeviceToHost, stream),
                    "downloading encoded payloads");
}

const RansEncoded *comneck_plan::encoded_results() const { return reinterpret_cast<const RansEncoded *>(encoded_staging.data()); }

// The symbols are still where they were. The larger room stays.
int32_t comneck_plan::encode_again() {
  int64_t longest = 0;
  for (int32_t n = 0; n < encode.image_count; n++) {
    if (encoded_results()[n].overflowed != 0) longest = std::max(longest, encoded_results()[n].bytes);
  }
  if (longest == 0) return COMNECK_OK;
  COMNECK_TRY(room_for_encoded(aligned(longest + longest / 4)));
  COMNECK_TRY(check_cuda(rans_encode(encode, images_per_block(encode.image_count, context->info.multiprocessors), stream), "encoding symbols"));
  COMNECK_TRY(download_encoded());
  return check_cuda(cudaStreamSynchronize(stream), "encoding symbols");
}

void comneck_plan::drop_graph() {
  if (graph != nullptr) (void)cudaGraphExecDestroy(graph);
  graph = nullptr;
}

void comneck_plan::capture() {
  captures_left--;
  // Relaxed: what a first launch allocates for itself is allowed.
  if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed) == cudaSuccess) {
    const int32_t status = queue_steps(true);
    cudaGraph_t captured = nullptr;
    const bool ended = cudaStreamEndCapture(stream, &captured) == cudaSuccess && captured != nullptr;
    if (status == COMNECK_OK && ended && cudaGraphInstantiateWithFlags(&graph, captured, 0) != cudaSuccess) graph = nullptr;
    if (graph != nullptr && cudaGraphUpload(graph, stream) != cudaSuccess) drop_graph();
    if (captured != nullptr) (void)cudaGraphDestroy(captured);
  }
  (void)cudaGetLastError();  // the steps, queued one by one, will say what is wrong, if it is more than capturing
}

int32_t comneck_plan::mark(size_t boundary, bool captured) {
  return check_cuda(captured ? cudaEventRecordWithFlags(boundaries[boundary], stream, cudaEventRecordExternal)
                             : cudaEventRecord(boundaries[boundary], stream),
                    "marking a stage");
}

Queue comneck_plan::queue() const {
  return {memory.data(),
          constant_memory.data(),
          reinterpret_cast<RansImage *>(payload_memory.data()),
          reinterpret_cast<const uint16_t *>(payload_memory.data() + words_offset),
          reinterpret_cast<const uint8_t *>(payload_memory.data() + bits_offset),
          reinterpret_cast<int16_t *>(coded.data()),
          reinterpret_cast<uint8_t *>(indices.data()),
          symbols,
          &encode,
          workspace.data(),
          context->info.multiprocessors,
          stream};
}

int32_t comneck_plan::queue_steps(bool captured) {
  for (const Port &port : ports) {
    if ((port.direction & COMNECK_INPUT) == 0) continue;
    COMNECK_TRY(check_cuda(cudaMemcpyAsync(memory.data() + port.offset, port_staging.data() + port.host, static_cast<size_t>(port.bytes),
                                           cudaMemcpyHostToDevice, stream),
                           "uploading inputs"));
  }
  const Queue where = queue();
  size_t stage = 0;
  for (const Entry &entry : steps) {
    while (stage < static_cast<size_t>(entry.stage)) COMNECK_TRY(mark(++stage, captured));
    COMNECK_TRY(check_cuda(entry.step(where), "queueing a step"));
  }
  for (const Port &port : ports) {
    if ((port.direction & COMNECK_OUTPUT) == 0) continue;
    COMNECK_TRY(check_cuda(cudaMemcpyAsync(port_staging.data() + port.host, memory.data() + port.offset, static_cast<size_t>(port.bytes),
                                           cudaMemcpyDeviceToHost, stream),
                           "downloading outputs"));
  }
  if (!encoded_passes.empty()) COMNECK_TRY(download_encoded());
  if (!payloads.empty()) {
    COMNECK_TRY(check_cuda(cudaMemcpyAsync(payload_staging.data(), payload_memory.data(), payloads.size() * sizeof(RansImage),
                                           cudaMemcpyDeviceToHost, stream),
                           "downloading verdicts"));
  }
  while (stage < nanos.size()) COMNECK_TRY(mark(++stage, captured));
  return COMNECK_OK;
}

int32_t comneck_plan::execute() {
  if (!sealed) return fail(COMNECK_MISUSE, "the plan is not sealed");
  if (!payloads.empty() && !finishes) return fail(COMNECK_MISUSE, "payloads are begun but not finished");
  COMNECK_TRY(check_cuda(cudaSetDevice(context->device), "choosing the device"));
  encoded_valid = false;
  COMNECK_TRY(room_for_payloads());
  COMNECK_TRY(room_for_encoded(encode.payload_room));
  COMNECK_TRY(mark(0, false));
  auto *images = reinterpret_cast<RansImage *>(payload_staging.data());
  int64_t words = 0;
  int64_t bits = 0;
  for (size_t n = 0; n < payloads.size(); n++) {
    Payload &payload = payloads[n];
    payload.damage = PayloadDamage{};
    PayloadHead head;
    if (!read_payload_head(payload.bytes.data(), static_cast<int64_t>(payload.bytes.size()), &head, &payload.damage)) {
      images[n] = damaged_image();
      continue;
    }
    lay_out(payload.bytes.data(), head, reinterpret_cast<uint16_t *>(payload_staging.data() + words_offset), words,
            reinterpret_cast<uint8_t *>(payload_staging.data() + bits_offset), bits, &images[n], &payload.sections);
    words += words_room(head);
    bits += head.bit_bytes + kBitPadding;
  }
  const auto upload = [&](int64_t offset, int64_t bytes) {
    return bytes == 0 ? COMNECK_OK
                      : check_cuda(cudaMemcpyAsync(payload_memory.data() + offset, payload_staging.data() + offset,
                                                   static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream),
                                   "uploading payloads");
  };
  const auto image_bytes = static_cast<int64_t>(payloads.size() * sizeof(RansImage));
  COMNECK_TRY(upload(0, image_bytes));
  COMNECK_TRY(upload(words_offset, 2 * words));
  COMNECK_TRY(upload(bits_offset, bits));
  COMNECK_TRY(graph != nullptr ? check_cuda(cudaGraphLaunch(graph, stream), "launching a run") : queue_steps(false));
  COMNECK_TRY(check_cuda(cudaStreamSynchronize(stream), "executing a run"));
  for (size_t n = 0; n < payloads.size(); n++) describe(images[n], payloads[n].sections, payloads[n].checksum, &payloads[n].damage);
  for (size_t stage = 0; stage < nanos.size(); stage++) {
    float milliseconds = 0;
    if (cudaEventElapsedTime(&milliseconds, boundaries[stage], boundaries[stage + 1]) != cudaSuccess) {
      (void)cudaGetLastError();  // a time is not worth a failed run
      milliseconds = 0;
    }
    nanos[stage] = static_cast<int64_t>(static_cast<double>(milliseconds) * 1e6);
  }
  if (!encoded_passes.empty()) COMNECK_TRY(encode_again());
  encoded_valid = true;
  if (graph == nullptr && captures_left > 0) capture();
  return COMNECK_OK;
}
