// CUDA on the processor, for tests: grids, blocks, shared memory, barriers, warp votes and shuffles, atomics, and the few runtime calls
// that our code makes, under their CUDA names.
//
// Every thread of a block is a fiber; one block runs at a time, all on the calling thread, so that a run is deterministic for its seed.
// A fiber runs until it waits (at a barrier, or for the other lanes of a warp). Between two waits of the block, the order in which fibers
// run is shuffled: code that needs a barrier and has none reads what was not written yet, in nearly every order. In some intervals one
// warp runs ahead as far as it gets before the next one starts; in others all go side by side. Blocks are shuffled too.
//
// What is reported, and fails the launch:
//   - a barrier or warp operation that not all of its threads reach: some ended, some wait elsewhere (another line counts as elsewhere);
//   - lanes of one warp operation that name different masks, a lane outside of its own mask, a shuffle from a lane outside of the mask;
//   - an operation of a whole warp (tensor cores, ldmatrix) in a warp that has fewer lanes;
//   - an address that should be shared memory and is not, or is not aligned;
//   - asynchronous work that is under way when its block ends; asynchronous products that not all four warps of a group start, or that
//     are not ordered behind what wrote their registers;
//   - launch shapes that a device refuses.
// Shared memory lies on the heap, filled with 0xA5 before each block: AddressSanitizer sees what reads or writes beyond it, and what was
// never written is a large negative number rather than 0. Asynchronous copies and products are done when they are started or when they are
// waited for, as the seed has it: a missing wait shows, and so does a copy over something that is still read.
//
// What it cannot express is listed in kernels/README.md.
#ifndef COMNECK_KERNELS_EMULATION_H
#define COMNECK_KERNELS_EMULATION_H

#if !defined(__x86_64__)
#error "the emulation switches fibers with x86-64 instructions"
#endif

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define COMNECK_EMULATION 1

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned columns = 1, unsigned rows = 1, unsigned layers = 1) : x(columns), y(rows), z(layers) {}
};

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(8) uint2 {
  unsigned x, y;
};

// Coordinates of the fiber that runs.
extern dim3 threadIdx;
extern dim3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
constexpr int warpSize = 32;

// ------------------------------------------------------------------------------------------------------------------------------ runtime

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorDevicesUnavailable = 46,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorECCUncorrectable = 214,
  cudaErrorNvlinkUncorrectable = 220,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchOutOfResources = 701,
  cudaErrorLaunchTimeout = 702,
  cudaErrorContextIsDestroyed = 709,
  cudaErrorHardwareStackError = 714,
  cudaErrorIllegalInstruction = 715,
  cudaErrorMisalignedAddress = 716,
  cudaErrorInvalidAddressSpace = 717,
  cudaErrorInvalidPc = 718,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorUnknown = 999
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
using cudaStream_t = struct comneck_emulated_stream *;

// A stream begins with the way in for libraries that were loaded beside the emulation and cannot link with it (emulation/vendor/): queues
// work(arguments), the bytes of which are copied, like a kernel. Both results are cudaError_t.
struct comneck_emulated_door {
  int32_t (*submit)(cudaStream_t stream, int32_t (*work)(const void *arguments), const void *arguments, size_t bytes);
};

const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaMalloc(void **memory, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMallocHost(void **memory, size_t bytes);
cudaError_t cudaFreeHost(void *memory);
// Copies when it is called: what it reads must be there already, as on a stream of a device.
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream);
constexpr unsigned cudaStreamNonBlocking = 1;
cudaError_t cudaSetDevice(int device);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);

// Graphs: a stream that is captured records what is queued and does nothing; a launch of the graph does it, in the order of recording.
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal = 0, cudaStreamCaptureModeThreadLocal = 1, cudaStreamCaptureModeRelaxed = 2 };
using cudaGraph_t = struct comneck_emulated_graph *;
using cudaGraphExec_t = struct comneck_emulated_executable *;
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);

using cudaEvent_t = struct comneck_emulated_event *;
constexpr unsigned cudaEventRecordExternal = 1;
cudaError_t cudaEventCreate(cudaEvent_t *event);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to);

template <class T>
cudaError_t cudaMalloc(T **memory, size_t bytes) {
  return cudaMalloc(reinterpret_cast<void **>(memory), bytes);
}
template <class T>
cudaError_t cudaMallocHost(T **memory, size_t bytes) {
  return cudaMallocHost(reinterpret_cast<void **>(memory), bytes);
}

// ---------------------------------------------------------------------------------------------------------------------------- emulation

namespace comneck::emulation {

// Where a barrier or a warp operation stands. Taken as default argument, so that it is the caller's line.
struct Site {
  const char *file;
  unsigned line;
  static constexpr Site here(const char *file = __builtin_FILE(), unsigned line = __builtin_LINE()) { return {file, line}; }
};

// Order of threads and blocks in the launches to come. 1 at the start; the environment's COMNECK_EMULATION_SEED overrides that.
void seed(uint64_t value);

// Whether a report is printed to stderr (it is at first). Tests that provoke reports switch this off.
void print_reports(bool wanted);

// The last report, "" when there was none since the last call of this function.
const char *take_report();

cudaError_t run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &kernel);

// What is counted and can be made to fail.
enum class Call {
  kAllocate,     // memory, streams, events, executable graphs
  kLaunch,       // of a kernel, or of a graph
  kSynchronize,
  kCapture
};
// A kernel on a stream: runs, or is recorded where the stream is captured.
cudaError_t submit_kernel(cudaStream_t stream, dim3 grid, dim3 block, size_t shared_bytes, std::function<void()> kernel);

// Inside kernels.
void *shared_object(const char *file, int line, size_t bytes, size_t alignment);
void *dynamic_shared(size_t alignment);
int block_barrier(int predicate, Site site, int mode);  // mode 0: plain, 1: and, 2: or, 3: count

enum class WarpOperation { kSync, kBallot, kShuffle, kAdd, kMax, kTogether };
// value: this lane's; source: the lane whose value a shuffle returns. Up to 8 bytes.
uint64_t warp_operation(WarpOperation operation, unsigned mask, uint64_t value, int source, Site site);
int lane();

// What the 32 lanes of a warp do together, such as a matrix product: apply gets what each lane brought, once all are there.
using Together = void (*)(void *const *lanes);
void together(Together apply, void *mine, Site site);

// Reports and fails the launch unless these bytes are shared memory of this block, at a multiple of `alignment`.
void check_shared(const void *memory, size_t bytes, size_t alignment, Site site);

// Shared memory as devices number it: every object lies at a multiple of its alignment, and of no more than that.
uint32_t shared_address(const void *memory, Site site);
// The bytes at such an address; reports and fails the launch where they are not of one object.
void *shared_at(uint32_t address, size_t bytes, Site site);

// Reports and fails the launch. misused: the fiber does not go on, so what its stack owns is never freed.
void failed_at(const char *what, Site site);
void misused(const char *what, Site site);

// Until the condition holds, which other fibers or asynchronous work bring about.
void wait_until(const std::function<bool()> &condition, Site site);

// Asynchronous work of the block: done now, or when no fiber can go on without it, in any order. A block must not end before.
void work_later(std::function<void()> work);

// Products of the warp that runs, called while its lanes are together: done in order, each when it is started or when it is waited for.
// The four warps of a group have to start the same ones. order_products: what lies in registers now is what products started later take.
void order_products();
void product_later(std::function<void()> product, Site site);
void commit_products();
void wait_products(size_t groups);

// Likewise unless the source of an asynchronous copy is aligned and the copy no longer than `most`.
void check_copy(const void *from, size_t bytes, size_t most, Site site);

// Asynchronous copies of the fiber that runs: `bytes` from `from`, then zeros up to `room`.
void copy_later(void *to, const void *from, size_t bytes, size_t room);
void commit_copies();
// Until at most this many of the groups committed last are under way.
void wait_copies(size_t groups);

template <class T>
uint64_t bits_of(T value) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T>
T value_of(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace comneck::emulation

extern "C" {
/*
 * For tests of what stands above the emulation, Java's too. call: 0 allocations, 1 launches, 2 synchronisations, 3 captures (emulation::Call).
 * The call of this kind after `after` more of them fails with this CUDA error; where it is sticky, everything fails from then on, as on a
 * device that is lost. error 0 takes all of that back.
 */
__attribute__((visibility("default"))) void comneck_emulation_inject(int32_t call, int32_t after, int32_t error, int32_t sticky);
/* How many calls of a kind there were. */
__attribute__((visibility("default"))) int64_t comneck_emulation_count(int32_t call);
}

// ------------------------------------------------------------------------------------------------------- barriers and warp operations

inline void __syncthreads(comneck::emulation::Site site = comneck::emulation::Site::here()) {
  (void)comneck::emulation::block_barrier(0, site, 0);
}
inline int __syncthreads_and(int predicate, comneck::emulation::Site site = comneck::emulation::Site::here()) {
  return comneck::emulation::block_barrier(predicate, site, 1);
}
inline int __syncthreads_or(int predicate, comneck::emulation::Site site = comneck::emulation::Site::here()) {
  return comneck::emulation::block_barrier(predicate, site, 2);
}
inline int __syncthreads_count(int predicate, comneck::emulation::Site site = comneck::emulation::Site::here()) {
  return comneck::emulation::block_barrier(predicate, site, 3);
}

inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, comneck::emulation::Site site = comneck::emulation::Site::here()) {
  (void)comneck::emulation::warp_operation(comneck::emulation::WarpOperation::kSync, mask, 0, 0, site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, comneck::emulation::Site site = comneck::emulation::Site::here()) {
  return static_cast<unsigned>(
      comneck::emulation::warp_operation(comneck::emulation::WarpOperation::kBallot, mask, predicate != 0 ? 1 : 0, 0, site));
}
inline int __any_sync(unsigned mask, int predicate, comneck::emulation::Site site = comneck::emulation::Site::here()) {
  return __ballot_sync(mask, predicate, site) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int predicate, comneck::emulation::Site site = comneck::emulation::Site::here()) {
  return __ballot_sync(mask, predicate, site) == mask ? 1 : 0;
}

// Shuffles: the lanes fall into groups of `width`; source is counted within the group.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              comneck::emulation::Site site = comneck::emulation::Site::here()) {
  const int base = comneck::emulation::lane() & ~(width - 1);
  return comneck::emulation::value_of<T>(comneck::emulation::warp_operation(
      comneck::emulation::WarpOperation::kShuffle, mask, comneck::emulation::bits_of(value), base + (source & (width - 1)), site));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                  comneck::emulation::Site site = comneck::emulation::Site::here()) {
  const int self = comneck::emulation::lane();
  const int other = self ^ lanes;
  const int source = (other & ~(width - 1)) > (self & ~(width - 1)) ? self : other;
  return comneck::emulation::value_of<T>(comneck::emulation::warp_operation(comneck::emulation::WarpOperation::kShuffle, mask,
                                                                            comneck::emulation::bits_of(value), source, site));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32,
                 comneck::emulation::Site site = comneck::emulation::Site::here()) {
  const int self = comneck::emulation::lane();
  const int other = self - static_cast<int>(distance);
  const int source = other < (self & ~(width - 1)) ? self : other;
  return comneck::emulation::value_of<T>(comneck::emulation::warp_operation(comneck::emulation::WarpOperation::kShuffle, mask,
                                                                            comneck::emulation::bits_of(value), source, site));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32,
                   comneck::emulation::Site site = comneck::emulation::Site::here()) {
  const int self = comneck::emulation::lane();
  const int other = self + static_cast<int>(distance);
  const int source = other > (self | (width - 1)) ? self : other;
  return comneck::emulation::value_of<T>(comneck::emulation::warp_operation(comneck::emulation::WarpOperation::kShuffle, mask,
                                                                            comneck::emulation::bits_of(value), source, site));
}

inline unsigned __reduce_add_sync(unsigned mask, unsigned value, comneck::emulation::Site site = comneck::emulation::Site::here()) {
  return static_cast<unsigned>(comneck::emulation::warp_operation(comneck::emulation::WarpOperation::kAdd, mask, value, 0, site));
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value, comneck::emulation::Site site = comneck::emulation::Site::here()) {
  return static_cast<unsigned>(comneck::emulation::warp_operation(comneck::emulation::WarpOperation::kMax, mask, value, 0, site));
}

inline void __threadfence() {}
inline void __threadfence_block() {}

// ----------------------------------------------------------------------------------------------------------- atomics and intrinsics

template <class T>
T atomicAdd(T *memory, T value) {
  const T old = *memory;
  *memory = old + value;
  return old;
}
template <class T>
T atomicMin(T *memory, T value) {
  const T old = *memory;
  *memory = value < old ? value : old;
  return old;
}
template <class T>
T atomicMax(T *memory, T value) {
  const T old = *memory;
  *memory = value > old ? value : old;
  return old;
}
template <class T>
T atomicOr(T *memory, T value) {
  const T old = *memory;
  *memory = old | value;
  return old;
}
template <class T>
T atomicXor(T *memory, T value) {
  const T old = *memory;
  *memory = old ^ value;
  return old;
}
template <class T>
T atomicExch(T *memory, T value) {
  const T old = *memory;
  *memory = value;
  return old;
}
template <class T>
T atomicCAS(T *memory, T expected, T value) {
  const T old = *memory;
  if (old == expected) *memory = value;
  return old;
}

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}
template <class T>
T __ldg(const T *memory) {
  return *memory;
}

// ------------------------------------------------------------------------------------------------------------------------------- launch

namespace comneck::cuda {

template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   const Arguments &...arguments) {
  return emulation::submit_kernel(stream, grid, block, shared_bytes, [=] { kernel(static_cast<Parameters>(arguments)...); });
}

template <class... Parameters>
cudaError_t allow_shared(void (*)(Parameters...), size_t bytes) {
  return bytes <= 227 * 1024 ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace comneck::cuda

#define COMNECK_SHARED(name, ...)      \
  using comneck_type_of_##name = __VA_ARGS__; \
  comneck_type_of_##name &name = *static_cast<comneck_type_of_##name *>( \
      ::comneck::emulation::shared_object(__FILE__, __LINE__, sizeof(comneck_type_of_##name), alignof(comneck_type_of_##name)))
#define COMNECK_DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(::comneck::emulation::dynamic_shared(alignof(type)))

#endif
