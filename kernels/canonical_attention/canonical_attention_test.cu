// Attention against the processor's canonical kernels of vision.h, bit by bit: sizes around sixteen partial sums, a warp and a block, F32 and
// BF16, strided views whose neighbours stay untouched.
#include "canonical_attention/canonical_attention.h"

#include <cstdlib>
#include <memory>

#include "strided_buffer.h"
#include "vision/vision.h"

using namespace comneck;
using namespace comneck::cuda;

namespace {

constexpr int32_t kTypes[] = {COMNECK_F32, COMNECK_BF16};

struct Size {
  int32_t images, tokens, heads, depth;
};

struct Freed {
  void operator()(void *memory) const { std::free(memory); }
};
using Scratch = std::unique_ptr<void, Freed>;
Scratch scratch_of(int64_t bytes) { return Scratch(std::aligned_alloc(64, static_cast<size_t>(bytes + 127) / 64 * 64)); }

void check_attention_of(Random *random, const Size &size, int32_t type, int32_t other) {
  const int32_t channels = size.heads * size.depth;
  const int64_t rows = int64_t{size.images} * size.tokens;
  StridedBuffer qkv(random, rows, 3 * channels, type, false), to(random, rows, channels, other, false);
  const DeviceArray<uint8_t> device_qkv(qkv.bytes);
  DeviceArray<uint8_t> device_to(to.bytes);
  CHECK(attention(qkv.side(const_cast<uint8_t *>(device_qkv.data())), to.side(device_to.data()), size.images, size.tokens, size.heads, size.depth,
                  nullptr) == cudaSuccess);
  AttentionCall call{{qkv.data(), qkv.type, qkv.stride}, {to.data(), to.type, to.stride}, size.images, size.tokens, size.heads, size.depth,
                     static_cast<float>(1.0 / std::sqrt(static_cast<double>(size.depth))), nullptr};
  const AttentionKernels &kernels = vision_portable().attention;
  const Scratch packed = scratch_of(kernels.packed_bytes(call)), own = scratch_of(kernels.thread_bytes(call));
  call.packed = packed.get();
  for (int64_t item = 0; item < int64_t{size.images} * size.heads; item++) kernels.pack(call, item);
  for (int64_t item = 0; item < attention_items(call); item++) kernels.attend(call, item, own.get());
  char what[80];
  std::snprintf(what, sizeof what, "attention of %d images, %d tokens, %d heads of %d", size.images, size.tokens, size.heads, size.depth);
  to.check_same(to.bytes, device_to.to_host(), what);
}

void check_attention() {
  Random random{62};
  // 129, 300: a thread has two keys, or three; 10,300 channels of a head take more shared memory than a block has without asking
  const Size sizes[] = {{1, 1, 1, 1},   {1, 2, 3, 3},   {2, 15, 1, 16}, {1, 16, 2, 31}, {3, 17, 1, 32}, {1, 31, 2, 33},
                        {2, 32, 1, 64}, {1, 33, 1, 65}, {1, 127, 1, 8}, {1, 128, 1, 5}, {1, 129, 1, 3}, {1, 300, 1, 2}, {2, 2, 1, 10300},
                        {1, 3, 2, 129}};
  for (const Size &size : sizes) {
    for (const int32_t type : kTypes) {
      for (const int32_t other : kTypes) check_attention_of(&random, size, type, other);
    }
  }
}

void check_misuse() {
  const Side none{nullptr, 1, COMNECK_F32};
  CHECK(attention(none, none, 1, 1, 0, 4, nullptr) == cudaErrorInvalidValue);
  CHECK(attention(none, none, 1, 1, 1, 0, nullptr) == cudaErrorInvalidValue);
  CHECK(attention(none, none, -1, 1, 1, 1, nullptr) == cudaErrorInvalidValue);
  CHECK(attention(none, none, 1, -1, 1, 1, nullptr) == cudaErrorInvalidValue);
  CHECK(attention(none, none, 65536, 1, 1, 1, nullptr) == cudaErrorInvalidValue);
  CHECK(attention(none, none, 1, 49990, 1, 11, nullptr) == cudaErrorInvalidValue);
  CHECK(attention(none, none, 0, 5, 1, 4, nullptr) == cudaSuccess);
  CHECK(attention(none, none, 5, 0, 1, 4, nullptr) == cudaSuccess);
}

}  // namespace

int main() {
  check_misuse();
  check_attention();
  return 0;
}
