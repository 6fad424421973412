#include "emulation/emulation.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <random>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

// Saves the callee-saved registers on the current stack, its top in *from, and goes on where the stack `to` was left.
extern "C" void comneck_emulation_switch(void **from, void *to);
asm(R"(
.text
.p2align 4
.hidden comneck_emulation_switch
.globl comneck_emulation_switch
.type comneck_emulation_switch, @function
comneck_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size comneck_emulation_switch, .-comneck_emulation_switch
)");

namespace comneck::emulation {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = 256 << 10;
#else
constexpr size_t kStackBytes = 64 << 10;
#endif
constexpr unsigned kMostThreads = 1024;
constexpr size_t kMostShared = 227 * 1024;
constexpr unsigned kLanes = 32;

// Stacks live as long as the process: a launch of 256 threads would otherwise map and unmap 256 of them.
class Stacks {
 public:
  char *get(size_t number) {
    while (stacks_.size() <= number) {
      void *memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED) {
        std::fprintf(stderr, "emulation: no memory for a stack\n");
        std::abort();
      }
      stacks_.push_back(static_cast<char *>(memory));
    }
    return stacks_[number];
  }

 private:
  std::vector<char *> stacks_;
};

enum class State { kReady, kBarrier, kWarp, kWaits, kEnded };

struct Copy {
  void *to;
  const void *from;
  size_t bytes;
  size_t room;
  size_t group;
};

struct Fiber {
  void *top = nullptr;  // of its stack, while it does not run
  char *stack = nullptr;
  void *fake_stack = nullptr;  // AddressSanitizer's
  State state = State::kReady;
  dim3 thread;
  unsigned number = 0;
  Site site{"", 0};
  // What it waits with.
  int predicate = 0;
  int mode = 0;
  WarpOperation operation = WarpOperation::kSync;
  unsigned mask = 0;
  uint64_t value = 0;
  int source = 0;
  Together apply = nullptr;
  void *operands = nullptr;
  std::function<bool()> condition;  // what kWaits waits for
  std::vector<Copy> copies;  // started, not done
  size_t group = 0;          // that the next copy belongs to
  // What it gets.
  uint64_t result = 0;
};

struct FreeAligned {
  size_t alignment;
  void operator()(unsigned char *memory) const { ::operator delete[](memory, std::align_val_t{alignment}); }
};

struct SharedObject {
  const char *file;
  int line;
  size_t bytes;
  uint32_t address;
  std::unique_ptr<unsigned char[], FreeAligned> memory;
};

// Asynchronous products of a warp.
struct Products {
  struct Product {
    std::function<void()> work;
    size_t group;
  };
  std::vector<Product> pending;
  size_t group = 0;
  size_t started = 0;
  uint64_t places = 0;  // a hash of where they were started
  bool ordered = false;
};

uint64_t initial_seed() {
  const char *text = std::getenv("COMNECK_EMULATION_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

std::mutex turn;
Stacks stacks;
std::mt19937_64 generator(initial_seed());
bool print = true;
std::string report;
std::string taken;
cudaError_t last_error = cudaSuccess;

// The block that runs.
std::vector<Fiber> fibers;
Fiber *running = nullptr;
const std::function<void()> *body = nullptr;
std::vector<SharedObject> shared_objects;
uint32_t shared_end = 0;
size_t dynamic_bytes = 0;
std::vector<std::function<void()>> later;
std::vector<Products> products;  // of each warp
bool failed = false;
void *scheduler_top = nullptr;
void *scheduler_fake_stack = nullptr;
const void *scheduler_stack = nullptr;
size_t scheduler_stack_bytes = 0;

void arrived([[maybe_unused]] void *fake_stack, [[maybe_unused]] const void **from, [[maybe_unused]] size_t *bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, from, bytes);
#endif
}

void to_scheduler(bool for_ever) {
  Fiber &self = *running;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(for_ever ? nullptr : &self.fake_stack, scheduler_stack, scheduler_stack_bytes);
#else
  (void)for_ever;
#endif
  comneck_emulation_switch(&self.top, scheduler_top);
  arrived(self.fake_stack, &scheduler_stack, &scheduler_stack_bytes);
}

void resume(Fiber &fiber) {
  running = &fiber;
  threadIdx = fiber.thread;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber.stack, kStackBytes);
#endif
  comneck_emulation_switch(&scheduler_top, fiber.top);
  arrived(scheduler_fake_stack, nullptr, nullptr);
}

[[noreturn]] void fiber_main() {
  arrived(nullptr, &scheduler_stack, &scheduler_stack_bytes);
  (*body)();
  running->state = State::kEnded;
  to_scheduler(true);
  std::abort();
}

void start(Fiber &fiber, unsigned number) {
  fiber = Fiber{};
  fiber.number = number;
  fiber.thread = {number % blockDim.x, number / blockDim.x % blockDim.y, number / blockDim.x / blockDim.y};
  fiber.stack = stacks.get(number);
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber.stack, kStackBytes);
#endif
  // What the first switch pops: six registers, then the address to return to. The slot above keeps the stack aligned as after a call.
  auto **slot = reinterpret_cast<void **>(fiber.stack + kStackBytes);
  *--slot = nullptr;
  *--slot = reinterpret_cast<void *>(&fiber_main);
  for (int i = 0; i < 6; i++) *--slot = nullptr;
  fiber.top = slot;
}

std::string where(const Fiber &fiber) {
  char text[320];
  const char *doing = fiber.state == State::kBarrier ? "waits for the block"
                      : fiber.state == State::kWarp  ? "waits for its warp"
                      : fiber.state == State::kWaits ? "waits"
                      : fiber.state == State::kEnded ? "has ended"
                                                     : "runs";
  if (fiber.state == State::kBarrier || fiber.state == State::kWarp || fiber.state == State::kWaits) {
    std::snprintf(text, sizeof text, "thread %u %s at %s:%u", fiber.number, doing, fiber.site.file, fiber.site.line);
  } else {
    std::snprintf(text, sizeof text, "thread %u %s", fiber.number, doing);
  }
  return text;
}

void fail(const std::string &what) {
  if (failed) return;
  failed = true;
  char block[96];
  std::snprintf(block, sizeof block, " (block %u,%u,%u of %u threads)", blockIdx.x, blockIdx.y, blockIdx.z, unsigned(fibers.size()));
  report = what + block;
  if (print) std::fprintf(stderr, "emulation: %s\n", report.c_str());
}

bool same_site(const Site &a, const Site &b) { return a.line == b.line && std::strcmp(a.file, b.file) == 0; }

// All fibers wait at one barrier: lets them go. False when they do not.
bool release_block() {
  const Fiber &first = fibers.front();
  int all = 1, any = 0, count = 0;
  for (const Fiber &fiber : fibers) {
    if (fiber.state != State::kBarrier) return false;
    if (!same_site(fiber.site, first.site) || fiber.mode != first.mode) {
      fail("threads of a block are at different barriers: " + where(first) + ", " + where(fiber));
      return false;
    }
    const int holds = fiber.predicate != 0 ? 1 : 0;
    all &= holds;
    any |= holds;
    count += holds;
  }
  const int result = first.mode == 1 ? all : first.mode == 2 ? any : first.mode == 3 ? count : 0;
  for (Fiber &fiber : fibers) {
    fiber.result = static_cast<uint64_t>(result);
    fiber.state = State::kReady;
  }
  return true;
}

// The lanes that self names: lets them go when all wait for the same.
void release_warp(Fiber &self) {
  Fiber *warp = &fibers[self.number / kLanes * kLanes];
  const unsigned present = std::min<unsigned>(kLanes, static_cast<unsigned>(fibers.size()) - self.number / kLanes * kLanes);
  for (unsigned i = 0; i < kLanes; i++) {
    if ((self.mask >> i & 1u) == 0) continue;
    if (i >= present) {
      // A warp that the block does not fill: the lanes beyond exist on no device either, and a full mask is usual.
      continue;
    }
    if (warp[i].state == State::kEnded) return fail("a warp operation names a lane that has ended: " + where(self) + ", " + where(warp[i]));
    if (warp[i].state != State::kWarp) return;
    if (warp[i].mask != self.mask || warp[i].operation != self.operation || warp[i].apply != self.apply ||
        !same_site(warp[i].site, self.site)) {
      return fail("lanes of a warp are at different operations or name different lanes: " + where(self) + ", " + where(warp[i]));
    }
  }
  if (self.operation == WarpOperation::kTogether) {
    if (present < kLanes) return fail("an operation of a whole warp where the block has a part of one: " + where(self));
    void *operands[kLanes];
    for (unsigned i = 0; i < kLanes; i++) operands[i] = warp[i].operands;
    self.apply(operands);
  }
  uint64_t ballot = 0, sum = 0, most = 0;
  for (unsigned i = 0; i < present; i++) {
    if ((self.mask >> i & 1u) == 0) continue;
    ballot |= (warp[i].value & 1u) << i;
    sum += warp[i].value;
    most = std::max(most, warp[i].value);
  }
  for (unsigned i = 0; i < present; i++) {
    if ((self.mask >> i & 1u) == 0) continue;
    Fiber &lane = warp[i];
    switch (self.operation) {
      case WarpOperation::kSync:
      case WarpOperation::kTogether: break;
      case WarpOperation::kBallot: lane.result = ballot; break;
      case WarpOperation::kAdd: lane.result = sum & 0xFFFFFFFFu; break;
      case WarpOperation::kMax: lane.result = most; break;
      case WarpOperation::kShuffle: {
        const auto source = static_cast<unsigned>(lane.source);
        if (source >= present || (self.mask >> source & 1u) == 0) {
          return fail("a shuffle from a lane that takes no part: " + where(lane));
        }
        lane.result = warp[source].value;
        break;
      }
    }
  }
  for (unsigned i = 0; i < present; i++) {
    if ((self.mask >> i & 1u) != 0) warp[i].state = State::kReady;
  }
}

// Draws how the next interval between two barriers of the block goes: the warps one after the other, each as far as it gets (returns
// true), or all side by side.
bool shuffle(std::vector<unsigned> *order) {
  for (size_t i = order->size(); i > 1; i--) std::swap((*order)[i - 1], (*order)[generator() % i]);
  return generator() % 4 != 0;
}

// Lets fibers go whose condition holds by now, or does one piece of asynchronous work. False when there is neither.
bool go_on() {
  bool any = false;
  for (Fiber &fiber : fibers) {
    if (fiber.state == State::kWaits && fiber.condition()) {
      fiber.state = State::kReady;
      any = true;
    }
  }
  if (any || later.empty()) return any;
  std::swap(later[generator() % later.size()], later.back());
  const std::function<void()> work = std::move(later.back());
  later.pop_back();
  work();
  return true;
}

// What has to be over when a block ends.
void check_ended() {
  if (!later.empty()) return fail("a block ends while asynchronous copies are under way");
  for (size_t warp = 0; warp < products.size(); warp++) {
    const Products &mine = products[warp];
    const size_t first = warp / 4 * 4;
    if (mine.started > 0 && first + 4 > products.size()) return fail("products of a group of four warps, in a block that has not four");
    if (!mine.pending.empty()) return fail("a block ends while asynchronous products are under way");
    if (mine.started != products[first].started || mine.places != products[first].places) {
      return fail("the four warps of a group started different products");
    }
  }
}

void run_block(size_t shared_bytes) {
  dynamic_bytes = shared_bytes;
  shared_objects.clear();
  shared_end = 16;
  later.clear();
  for (unsigned i = 0; i < fibers.size(); i++) start(fibers[i], i);
  const auto warps = static_cast<unsigned>((fibers.size() + kLanes - 1) / kLanes);
  products.assign(warps, {});
  std::vector<unsigned> order(warps);
  for (unsigned w = 0; w < warps; w++) order[w] = w;
  std::vector<Fiber *> ready;
  bool ahead = shuffle(&order);
  while (!failed) {
    ready.clear();
    for (const unsigned warp : order) {
      for (unsigned i = warp * kLanes; i < std::min<size_t>(fibers.size(), (warp + 1) * kLanes); i++) {
        if (fibers[i].state == State::kReady) ready.push_back(&fibers[i]);
      }
      if (ahead && !ready.empty()) break;
    }
    if (ready.empty()) {
      const auto stuck = std::find_if(fibers.begin(), fibers.end(), [](const Fiber &f) { return f.state != State::kEnded; });
      if (stuck == fibers.end()) return check_ended();
      if (release_block()) {
        ahead = shuffle(&order);
        continue;
      }
      if (go_on()) continue;
      const auto other = std::find_if(fibers.begin(), fibers.end(), [&](const Fiber &f) {
        return f.state != stuck->state || !same_site(f.site, stuck->site);
      });
      fail("threads wait for ever: " + where(*stuck) + (other == fibers.end() ? "" : ", " + where(*other)));
      return;
    }
    for (size_t i = ready.size(); i > 1; i--) std::swap(ready[i - 1], ready[generator() % i]);
    for (Fiber *fiber : ready) {
      if (failed) return;
      resume(*fiber);
    }
  }
}

}  // namespace

void seed(uint64_t value) { generator.seed(value); }
void print_reports(bool wanted) { print = wanted; }
const char *take_report() {
  taken.swap(report);
  report.clear();
  return taken.c_str();
}

cudaError_t run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &kernel) {
  const std::lock_guard<std::mutex> lock(turn);
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  if (threads == 0 || threads > kMostThreads || block.z > 64 || blocks == 0 || grid.x > 0x7FFFFFFFu || grid.y > 65535 ||
      grid.z > 65535 || shared_bytes > kMostShared) {
    char text[160];
    std::snprintf(text, sizeof text, "no device launches %ux%ux%u blocks of %ux%ux%u threads with %zu bytes", grid.x, grid.y, grid.z,
                  block.x, block.y, block.z, shared_bytes);
    report = text;
    if (print) std::fprintf(stderr, "emulation: %s\n", text);
    return last_error = cudaErrorInvalidConfiguration;
  }
  gridDim = grid;
  blockDim = block;
  body = &kernel;
  failed = false;
  fibers.resize(threads);
  std::vector<uint64_t> order(blocks);
  for (uint64_t i = 0; i < blocks; i++) order[i] = i;
  for (uint64_t i = blocks; i > 1; i--) std::swap(order[i - 1], order[generator() % i]);
  for (const uint64_t number : order) {
    blockIdx = {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                static_cast<unsigned>(number / grid.x / grid.y)};
    run_block(shared_bytes);
    if (failed) break;
  }
  shared_objects.clear();
  later.clear();
  products.clear();
  running = nullptr;
  return failed ? last_error = cudaErrorLaunchFailure : cudaSuccess;
}

void *shared_object(const char *file, int line, size_t bytes, size_t alignment) {
  for (const SharedObject &object : shared_objects) {
    if (object.line == line && std::strcmp(object.file, file) == 0) return object.memory.get();
  }
  // Behind the one before, and at an odd multiple of its alignment, so that none has more than it asks for.
  alignment = std::max<size_t>(alignment, 16);
  auto address = static_cast<uint32_t>((shared_end + alignment - 1) / alignment * alignment);
  if (address / alignment % 2 == 0) address += static_cast<uint32_t>(alignment);
  shared_end = address + static_cast<uint32_t>(bytes);
  auto *memory = static_cast<unsigned char *>(::operator new[](bytes, std::align_val_t{alignment}));
  shared_objects.push_back({file, line, bytes, address, std::unique_ptr<unsigned char[], FreeAligned>(memory, FreeAligned{alignment})});
  std::memset(shared_objects.back().memory.get(), 0xA5, bytes);
  return shared_objects.back().memory.get();
}

void *dynamic_shared(size_t alignment) { return shared_object("dynamic", 0, dynamic_bytes, alignment); }

int lane() { return static_cast<int>(running->number % kLanes); }

int block_barrier(int predicate, Site site, int mode) {
  Fiber &self = *running;
  self.state = State::kBarrier;
  self.site = site;
  self.predicate = predicate;
  self.mode = mode;
  to_scheduler(false);
  return static_cast<int>(self.result);
}

uint64_t warp_operation(WarpOperation operation, unsigned mask, uint64_t value, int source, Site site) {
  Fiber &self = *running;
  self.state = State::kWarp;
  self.site = site;
  self.operation = operation;
  self.mask = mask;
  self.value = value;
  self.source = source;
  self.apply = nullptr;
  if ((mask >> (self.number % kLanes) & 1u) == 0) {
    fail("a lane does not name itself in its mask: " + where(self));
  } else {
    release_warp(self);
  }
  to_scheduler(false);
  return self.result;
}

void together(Together apply, void *mine, Site site) {
  Fiber &self = *running;
  self.state = State::kWarp;
  self.site = site;
  self.operation = WarpOperation::kTogether;
  self.mask = 0xFFFFFFFFu;
  self.apply = apply;
  self.operands = mine;
  release_warp(self);
  to_scheduler(false);
}

void failed_at(const char *what, Site site) {
  char text[320];
  std::snprintf(text, sizeof text, "%s: thread %u at %s:%u", what, running->number, site.file, site.line);
  fail(text);
}

void misused(const char *what, Site site) {
  failed_at(what, site);
  to_scheduler(false);
}

uint32_t shared_address(const void *memory, Site site) {
  const auto address = reinterpret_cast<uintptr_t>(memory);
  for (const SharedObject &object : shared_objects) {
    const auto first = reinterpret_cast<uintptr_t>(object.memory.get());
    if (address >= first && address - first < object.bytes) return object.address + static_cast<uint32_t>(address - first);
  }
  misused("an address that is not in shared memory", site);
  return 0;
}

void *shared_at(uint32_t address, size_t bytes, Site site) {
  for (const SharedObject &object : shared_objects) {
    if (address >= object.address && bytes <= object.bytes && address - object.address <= object.bytes - bytes) {
      return object.memory.get() + (address - object.address);
    }
  }
  misused("an address that is not in shared memory", site);
  return nullptr;
}

void wait_until(const std::function<bool()> &condition, Site site) {
  // Not even where it holds already does the fiber go on at once: others may be first.
  Fiber &self = *running;
  self.state = State::kWaits;
  self.site = site;
  self.condition = condition;
  to_scheduler(false);
}

void work_later(std::function<void()> work) {
  if (generator() % 2 == 0) {
    work();
  } else {
    later.push_back(std::move(work));
  }
}

namespace {
Products &products_here() { return products[running->number / kLanes]; }

void finish_products(size_t groups) {
  Products &mine = products_here();
  size_t done = 0;
  while (done < mine.pending.size() && mine.pending[done].group + groups < mine.group) mine.pending[done++].work();
  mine.pending.erase(mine.pending.begin(), mine.pending.begin() + static_cast<std::ptrdiff_t>(done));
}
}  // namespace

void order_products() { products_here().ordered = true; }

void product_later(std::function<void()> product, Site site) {
  Products &mine = products_here();
  if (!mine.ordered) return failed_at("a product that is not ordered behind what wrote its registers", site);
  mine.started++;
  for (const char *c = site.file; *c != 0; c++) mine.places = mine.places * 31 + static_cast<unsigned char>(*c);
  mine.places = mine.places * 31 + site.line;
  mine.pending.push_back({std::move(product), mine.group});
  if (generator() % 2 == 0) return;
  for (const Products::Product &it : mine.pending) it.work();
  mine.pending.clear();
}

void commit_products() { products_here().group++; }

void wait_products(size_t groups) {
  finish_products(groups);
  products_here().ordered = false;
}

void check_shared(const void *memory, size_t bytes, size_t alignment, Site site) {
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const bool is_shared = std::any_of(shared_objects.begin(), shared_objects.end(), [&](const SharedObject &object) {
    const auto first = reinterpret_cast<uintptr_t>(object.memory.get());
    return address >= first && bytes <= object.bytes && address - first <= object.bytes - bytes;
  });
  if (!is_shared) misused("an address that is not in shared memory", site);
  if (address % alignment != 0) misused("a misaligned address", site);
}

void check_copy(const void *from, size_t bytes, size_t most, Site site) {
  if (reinterpret_cast<uintptr_t>(from) % most != 0) misused("a misaligned address", site);
  if (bytes > most) misused("a copy that is too long", site);
}

namespace {
void copy_now(const Copy &copy) {
  if (copy.bytes > 0) std::memcpy(copy.to, copy.from, copy.bytes);
  std::memset(static_cast<char *>(copy.to) + copy.bytes, 0, copy.room - copy.bytes);
}
}  // namespace

void copy_later(void *to, const void *from, size_t bytes, size_t room) {
  const Copy copy{to, from, bytes, room, running->group};
  if (generator() % 2 == 0) {
    copy_now(copy);
  } else {
    running->copies.push_back(copy);
  }
}

void commit_copies() { running->group++; }

void wait_copies(size_t groups) {
  std::vector<Copy> left;
  for (const Copy &copy : running->copies) {
    if (copy.group + groups < running->group) {
      copy_now(copy);
    } else {
      left.push_back(copy);
    }
  }
  running->copies.swap(left);
}

}  // namespace comneck::emulation

// ------------------------------------------------------------------------------------------------------------------------------ runtime

namespace emulation = comneck::emulation;

const char *cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
    case cudaErrorDevicesUnavailable: return "the device is busy or unavailable";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    default: return "invalid argument";
  }
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = emulation::last_error;
  emulation::last_error = cudaSuccess;
  return error;
}

namespace {

using emulation::Call;

struct Fault {
  int32_t call = -1;
  int32_t after = 0;
  cudaError_t error = cudaSuccess;
  bool sticky = false;
  bool struck = false;
};
std::mutex faults;
Fault fault;
int64_t counts[4] = {};

// Counts a call, and says whether it has to fail.
cudaError_t entered(Call call) {
  const std::lock_guard<std::mutex> lock(faults);
  counts[static_cast<int>(call)]++;
  if (fault.error == cudaSuccess) return cudaSuccess;
  if (!fault.struck) {
    if (fault.call != static_cast<int32_t>(call) || fault.after-- > 0) return cudaSuccess;
    fault.struck = true;
  } else if (!fault.sticky) {
    return cudaSuccess;
  }
  return emulation::last_error = fault.error;
}

}  // namespace

void comneck_emulation_inject(int32_t call, int32_t after, int32_t error, int32_t sticky) {
  const std::lock_guard<std::mutex> lock(faults);
  fault = {call, after, static_cast<cudaError_t>(error), sticky != 0, false};
}

int64_t comneck_emulation_count(int32_t call) {
  const std::lock_guard<std::mutex> lock(faults);
  return call >= 0 && call < 4 ? counts[call] : -1;
}

using Work = std::function<cudaError_t()>;
struct comneck_emulated_graph {
  std::vector<Work> work;
};
struct comneck_emulated_executable {
  std::vector<Work> work;
};
struct comneck_emulated_stream : comneck_emulated_door {
  comneck_emulated_stream();
  std::unique_ptr<comneck_emulated_graph> captured;  // while it is captured
};
struct comneck_emulated_event {
  std::chrono::steady_clock::time_point at;
};

namespace {

// Done now, or recorded.
cudaError_t submit(cudaStream_t stream, Work work) {
  if (stream == nullptr || stream->captured == nullptr) return work();
  stream->captured->work.push_back(std::move(work));
  return cudaSuccess;
}

int32_t submit_foreign(cudaStream_t stream, int32_t (*work)(const void *), const void *arguments, size_t bytes) {
  if (const cudaError_t error = entered(Call::kLaunch); error != cudaSuccess) return error;
  const auto *first = static_cast<const std::byte *>(arguments);
  return submit(stream, [work, copy = std::vector<std::byte>(first, first + bytes)] { return static_cast<cudaError_t>(work(copy.data())); });
}

}  // namespace

comneck_emulated_stream::comneck_emulated_stream() : comneck_emulated_door{submit_foreign} {}

namespace comneck::emulation {
cudaError_t submit_kernel(cudaStream_t stream, dim3 grid, dim3 block, size_t shared_bytes, std::function<void()> kernel) {
  if (const cudaError_t error = entered(Call::kLaunch); error != cudaSuccess) return error;
  return submit(stream, [=] { return run(grid, block, shared_bytes, kernel); });
}
}  // namespace comneck::emulation

// Fresh memory is filled, so that nothing depends on a device's being zero.
cudaError_t cudaMalloc(void **memory, size_t bytes) {
  if (const cudaError_t error = entered(Call::kAllocate); error != cudaSuccess) return error;
  *memory = std::aligned_alloc(256, std::max<size_t>(256, (bytes + 255) / 256 * 256));
  if (*memory == nullptr) return cudaErrorMemoryAllocation;
  std::memset(*memory, 0xA5, bytes);
#if defined(__SANITIZE_ADDRESS__)
  // aligned_alloc rounded up: what lies behind the last byte is out of bounds all the same
  __asan_poison_memory_region(static_cast<char *>(*memory) + bytes, std::max<size_t>(256, (bytes + 255) / 256 * 256) - bytes);
#endif
  return cudaSuccess;
}
cudaError_t cudaFree(void *memory) {
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void **memory, size_t bytes) { return cudaMalloc(memory, bytes); }
cudaError_t cudaFreeHost(void *memory) { return cudaFree(memory); }
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return submit(stream, [=] {
    if (bytes > 0) std::memcpy(to, from, bytes);
    return cudaSuccess;
  });
}
cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream) {
  return submit(stream, [=] {
    if (bytes > 0) std::memset(memory, value, bytes);
    return cudaSuccess;
  });
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const cudaError_t error = entered(Call::kSynchronize); error != cudaSuccess) return error;
  return stream != nullptr && stream->captured != nullptr ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorNoDevice; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
  if (const cudaError_t error = entered(Call::kAllocate); error != cudaSuccess) return error;
  *stream = new comneck_emulated_stream;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (const cudaError_t error = entered(Call::kCapture); error != cudaSuccess) return error;
  if (stream == nullptr || stream->captured != nullptr) return cudaErrorStreamCaptureUnsupported;
  stream->captured = std::make_unique<comneck_emulated_graph>();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  if (stream == nullptr || stream->captured == nullptr) return cudaErrorInvalidValue;
  *graph = stream->captured.release();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long) {
  if (const cudaError_t error = entered(Call::kAllocate); error != cudaSuccess) return error;
  *executable = new comneck_emulated_executable{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (const cudaError_t error = entered(Call::kLaunch); error != cudaSuccess) return error;
  for (const Work &work : executable->work) {
    if (const cudaError_t error = submit(stream, work); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
  if (const cudaError_t error = entered(Call::kAllocate); error != cudaSuccess) return error;
  *event = new comneck_emulated_event{};
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return cudaEventRecordWithFlags(event, stream, 0); }
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  return submit(stream, [=] {
    event->at = std::chrono::steady_clock::now();
    return cudaSuccess;
  });
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
  *milliseconds = std::chrono::duration<float, std::milli>(to->at - from->at).count();
  return cudaSuccess;
}
