// Contexts, layers and plans of libcomneck_cuda.
//
// Memory of a plan, all allocated when it is sealed, nothing afterwards (but for a payload larger than any before):
//   device: buffers (the caller's layout) | constants of the steps | symbols in coding order, scale indices | payloads | encoded payloads,
//           the encoder's scratch | what calls of a vendor's library work in, one after the other
//   pinned: ports | payloads | encoded payloads
// An execution queues on the plan's own stream: the payloads up; ports that the host wrote up, the steps, ports that the host reads, encoded
// payloads and the images' verdicts down; then waits once. All but the payloads that go up, whose lengths differ, is one graph, captured when
// the plan is sealed. An encoded payload that does not fit its room is made once more, alone, with room enough.
#ifndef COMNECK_KERNELS_PLAN_H
#define COMNECK_KERNELS_PLAN_H

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backend/status.h"
#include "backend/view.h"
#include "canonical_conv/canonical_conv.h"
#include "comneck.h"
#include "device.h"
#include "elements.h"
#include "entropy/payload_head.h"
#include "fused_attention/fused_attention.h"
#include "rans_decode/rans_batch.h"
#include "rans_decode/rans_decode.h"
#include "rans_encode/rans_encode.h"
#include "runtime/device_info.h"
#include "tensor_gemm/tensor_gemm.h"
#include "vendor/cublaslt.h"
#include "vendor/cudnn.h"

namespace comneck::cuda {

// COMNECK_OK, or the status and message of a CUDA error. doing: "allocating 12 bytes".
int32_t check_cuda(cudaError_t error, const char *doing);

// Memory of the device or pinned memory of the host; one owner.
class Allocation {
 public:
  enum class Kind { kDevice, kPinned };
  explicit Allocation(Kind kind) : kind_(kind) {}
  Allocation(const Allocation &) = delete;
  Allocation &operator=(const Allocation &) = delete;
  ~Allocation() { release(); }

  // Frees what was there. 0 bytes are allowed.
  int32_t allocate(int64_t bytes);
  char *data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  void release();

  Kind kind_;
  char *data_ = nullptr;
  int64_t bytes_ = 0;
};

// What a step sees when it is queued.
struct Queue {
  char *memory;           // the buffers
  const char *constants;
  RansImage *images;
  const uint16_t *words;
  const uint8_t *bits;
  int16_t *coded;         // [image][symbols of all passes]
  uint8_t *indices;
  int64_t symbols;        // of an image, all passes
  const RansEncodeCall *encode;
  void *workspace;
  int32_t multiprocessors;
  cudaStream_t stream;
};

using Step = std::function<cudaError_t(const Queue &)>;

// With few images each has a multiprocessor for itself; with many, four share a block so that its lanes are busy.
inline int32_t images_per_block(int32_t images, int32_t multiprocessors) { return images <= 2 * multiprocessors ? 1 : 4; }

}  // namespace comneck::cuda

struct comneck_context {
  int32_t device;
  comneck::cuda::DeviceInfo info;
  comneck::cuda::AttentionKernel attention = comneck::cuda::AttentionKernel::kMma;
  comneck::cuda::GemmTile gemm = comneck::cuda::GemmTile::kAuto;
  std::unique_ptr<comneck::cuda::CublasLt> cublaslt = nullptr;  // null: our own kernels
  std::unique_ptr<comneck::cuda::Cudnn> cudnn = nullptr;
};

struct comneck_layer {
  comneck_context *context = nullptr;
  comneck::cuda::ConvLayer packed;  // weights and bias moved to the device
  comneck::cuda::Allocation memory{comneck::cuda::Allocation::Kind::kDevice};
  mutable std::mutex making;  // of the next two
  mutable const float *weights = nullptr;  // the canonical kernel's; null until a step needs them where there are others
  mutable comneck::cuda::Allocation canonical_memory{comneck::cuda::Allocation::Kind::kDevice};
  const float *bias = nullptr;
  const uint16_t *tensor_weights = nullptr;  // of a BF16 or F16 layer on single positions or patches, for the tensor cores; else null
  const uint16_t *conv_weights = nullptr;    // likewise of other layers that tensor_conv takes
  int32_t tensor_type = COMNECK_F32;         // of those, and of the vendor's
  // What a vendor's library may want, as cublaslt.h and cudnn.h say; else null.
  const uint16_t *tensor_bias = nullptr;
  const uint16_t *cudnn_halves = nullptr;    // weights of the type that the precision multiplies
  const float *cudnn_floats = nullptr;
  const comneck::cuda::ConvTap *taps = nullptr;
  const comneck::cuda::ConvPhase *phases = nullptr;
};

struct comneck_plan {
  explicit comneck_plan(comneck_context *owner) : context(owner) {}
  ~comneck_plan();

  struct Port {
    int64_t offset;
    int64_t bytes;
    int32_t direction;
    int64_t host;  // offset in pinned memory
  };
  struct Entry {
    comneck::cuda::Step step;
    int32_t kind;  // COMNECK_CUDA_TENSOR_GEMM, ...: what it launches, once
    int32_t stage;
    comneck::cuda::Step own;  // of a step that calls a vendor's library: what takes its place if that fails; else empty
    int32_t own_kind;
  };
  struct Payload {
    std::vector<uint8_t> bytes;
    uint32_t checksum = 0;
    comneck::cuda::RansSections sections;
    comneck::PayloadDamage damage{-1, "no payload was handed over"};
  };
  struct EncodedPass {
    comneck_view symbols;
    comneck_view indices;
    int64_t channel_indices;  // among the constants, in place of absent indices
    comneck::cuda::RansEncodeTables tables;
  };

  int32_t check(const comneck_view *view, const char *name) { return comneck::check_view(view, name, &reach); }
  int32_t check(const comneck_view *view, const char *name, int32_t type, int32_t other) {
    return comneck::check_view(view, name, type, other, &reach);
  }
  int32_t add(int32_t kind, comneck::cuda::Step step);
  // The step added last is our own; vendor's does the same by a library's call, which needs this much workspace.
  void replace_last(int32_t kind, comneck::cuda::Step vendor, int64_t workspace_bytes);
  // Offset of a copy of these bytes among the constants.
  int64_t constant(const void *data, int64_t bytes);
  int32_t seal(int64_t memory_bytes);
  int32_t execute();
  int32_t room_for_payloads();
  int32_t room_for_encoded(int64_t payload_room);
  // Puts the passes, whose addresses are known by now, among the constants.
  void address_encoded_passes();
  int32_t download_encoded();
  // Once more, when payloads were longer than their room.
  int32_t encode_again();
  const comneck::cuda::RansEncoded *encoded_results() const;
  // Where steps find their memory.
  comneck::cuda::Queue queue() const;
  // Executes each step that calls a vendor's library once; one that fails is replaced by our own.
  void try_vendor_steps();
  // Ports up, steps, ports and verdicts down. captured: into a graph.
  int32_t queue_steps(bool captured);
  int32_t mark(size_t boundary, bool captured);
  // Captures the steps; without success they are queued one by one.
  void capture();
  void drop_graph();

  comneck_context *const context;
  std::vector<Entry> steps;
  std::vector<int64_t> nanos;  // of each stage
  std::vector<Port> ports;
  std::vector<uint8_t> constants;
  std::map<const comneck_tables *, std::pair<int64_t, comneck::cuda::RansTablesLayout>> tables;
  std::vector<Payload> payloads;
  int64_t symbols = 0;       // of an image, all passes
  int64_t most_symbols = 0;  // of a pass
  std::vector<EncodedPass> encoded_passes;  // none: the plan encodes nothing
  comneck::cuda::RansEncodeCall encode{};
  int64_t at_encoded_passes = 0;  // among the constants
  int64_t at_encode_tables = 0;
  bool encoded_valid = false;  // the last execution succeeded
  int64_t reach = 0;
  bool sealed = false;
  bool finishes = false;
  int64_t workspace_bytes = 0;
  int captures_left = 2;  // when sealing, and once more after an execution that had to do without

  cudaGraphExec_t graph = nullptr;
  std::vector<cudaEvent_t> boundaries;  // of the stages: one more than there are
  cudaStream_t stream = nullptr;
  comneck::cuda::Allocation memory{comneck::cuda::Allocation::Kind::kDevice};
  comneck::cuda::Allocation constant_memory{comneck::cuda::Allocation::Kind::kDevice};
  comneck::cuda::Allocation coded{comneck::cuda::Allocation::Kind::kDevice};
  comneck::cuda::Allocation indices{comneck::cuda::Allocation::Kind::kDevice};
  comneck::cuda::Allocation payload_memory{comneck::cuda::Allocation::Kind::kDevice};
  comneck::cuda::Allocation payload_staging{comneck::cuda::Allocation::Kind::kPinned};
  comneck::cuda::Allocation port_staging{comneck::cuda::Allocation::Kind::kPinned};
  comneck::cuda::Allocation encoded{comneck::cuda::Allocation::Kind::kDevice};          // results | payloads
  comneck::cuda::Allocation encoded_staging{comneck::cuda::Allocation::Kind::kPinned};  // the same
  comneck::cuda::Allocation encode_scratch{comneck::cuda::Allocation::Kind::kDevice};
  comneck::cuda::Allocation workspace{comneck::cuda::Allocation::Kind::kDevice};
  int64_t words_offset = 0;  // in the payload memory
  int64_t bits_offset = 0;
};

#endif
