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
#include <vector>

#include "backend/context.h"
#include "backend/layer.h"
#include "backend/memory.h"
#include "backend/status.h"
#include "backend/view.h"
#include "comneck.h"

namespace comneck {

class EncodedImages;
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

// First element of the view: element (n, p, c) lies (n * positions + p) * channel_stride + c elements further.
inline char *at(const Execution &execution, const comneck_view &view) {
  return execution.memory + view.offset_bytes + view.channel_offset * element_bytes_of(view.type);
}

}  // namespace comneck

struct comneck_plan {
  explicit comneck_plan(comneck_context *owner) : context(owner) {}

  // COMNECK_OK when the view is sound in itself; remembers how far it reaches. name is for the message.
  int32_t check_view(const comneck_view *view, const char *name) { return comneck::check_view(view, name, &reach); }
  // The same, and of one of two types (the same one twice for a single one).
  int32_t check_view(const comneck_view *view, const char *name, int32_t type, int32_t other_type) {
    return comneck::check_view(view, name, type, other_type, &reach);
  }
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
  std::shared_ptr<comneck::Payloads> payloads;      // null when nothing is decoded
  std::shared_ptr<comneck::EncodedImages> encoded;  // null when nothing is encoded
  comneck::Memory memory;
  comneck::Memory scratch;
};

#endif
