// A plan: steps that were checked when they were added, and the memory they work in.
//
// Adding a kind of step:
//   1. declare comneck_plan_<name>(plan, ...) in comneck.h;
//   2. check every view with check_view() and every relation between views; copy what the step keeps;
//   3. derive from Step, ask for scratch memory with Plan::need_scratch(), and hand the step to Plan::add();
//   4. wrap the C function in guarded(), which turns std::bad_alloc into a status.
// Step::execute finds its memory with at() and must neither allocate nor throw.
#ifndef COMNECK_BACKEND_PLAN_H
#define COMNECK_BACKEND_PLAN_H

#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "backend/context.h"
#include "backend/layer.h"
#include "backend/memory.h"
#include "backend/status.h"
#include "comneck.h"

namespace comneck {

class Payloads;

struct Execution {
  char *memory;   // the plan's buffers
  char *scratch;  // as much as the hungriest step asked for; contents undefined; 64-byte aligned
  ThreadPool &pool;
};

class Step {
 public:
  Step() = default;
  Step(const Step &) = delete;
  Step &operator=(const Step &) = delete;
  virtual ~Step() = default;
  virtual void execute(const Execution &execution) const = 0;
};

// Bytes of an element; 0 for an unknown type.
int64_t element_bytes_of(int32_t type);

// Positions of a height x width grid.
int64_t positions_of(int32_t grid, int32_t height, int32_t width);

inline int64_t positions_of(const comneck_view &view) { return positions_of(view.grid, view.height, view.width); }

// First element of the view: element (n, p, c) lies (n * positions + p) * channel_stride + c elements further.
inline char *at(const Execution &execution, const comneck_view &view) {
  return execution.memory + view.offset_bytes + view.channel_offset * element_bytes_of(view.type);
}

// "F32 [2, 16x16 anchors, 32 of 64]" for messages.
struct ViewText {
  explicit ViewText(const comneck_view &view);
  char text[96];
};

// The same images, grid, height, width and channels.
bool same_shape(const comneck_view &a, const comneck_view &b);

// Runs body and turns what it throws into a status.
template <class Body>
int32_t guarded(const Body &body) {
  try {
    return body();
  } catch (const std::bad_alloc &) {
    return fail(COMNECK_OUT_OF_MEMORY, "out of memory");
  } catch (...) {
    return fail(COMNECK_INTERNAL, "an unexpected exception");
  }
}

}  // namespace comneck

struct comneck_plan {
  explicit comneck_plan(comneck_context *owner) : context(owner) {}

  // COMNECK_OK when the view is sound in itself; remembers how far it reaches. name is for the message.
  int32_t check_view(const comneck_view *view, const char *name);
  // The same, and of one of two types (the same one twice for a single one).
  int32_t check_view(const comneck_view *view, const char *name, int32_t type, int32_t other_type);
  int32_t check_view(const comneck_view *view, const char *name, int32_t type) {
    return check_view(view, name, type, type);
  }

  void need_scratch(int64_t bytes) { scratch_bytes = bytes > scratch_bytes ? bytes : scratch_bytes; }
  // Threads that steps may see in ThreadPool::run.
  int32_t threads() const { return context->pool.threads(); }
  int32_t add(std::unique_ptr<comneck::Step> step);
  int32_t seal(int64_t memory_bytes);
  int32_t execute();

  struct Entry {
    std::unique_ptr<comneck::Step> step;
    int32_t stage;
  };

  comneck_context *const context;
  std::vector<Entry> steps;
  std::vector<int64_t> nanos;  // of each stage
  int64_t reach = 0;           // bytes that the views need
  int64_t scratch_bytes = 0;
  bool sealed = false;
  std::shared_ptr<comneck::Payloads> payloads;  // null when nothing is decoded
  comneck::Memory memory;
  comneck::Memory scratch;
};

#endif
