#include "backend/plan.h"

#include <chrono>
#include <mutex>
#include <utility>

#include "backend/float_environment.h"

using comneck::fail;

int32_t comneck_plan::add(std::unique_ptr<comneck::Step> step) {
  if (sealed) return fail(COMNECK_MISUSE, "a step added to a sealed plan");
  if (nanos.empty()) nanos.push_back(0);
  steps.push_back({std::move(step), static_cast<int32_t>(nanos.size()) - 1});
  return COMNECK_OK;
}

int32_t comneck_plan::seal(int64_t memory_bytes) {
  if (sealed) return fail(COMNECK_MISUSE, "the plan is sealed already");
  if (memory_bytes < reach) {
    return fail(COMNECK_MISUSE, "%lld bytes of memory, but the views reach to %lld",
                static_cast<long long>(memory_bytes), static_cast<long long>(reach));
  }
  memory = comneck::Memory(memory_bytes);
  scratch = comneck::Memory(scratch_bytes);
  sealed = true;
  return COMNECK_OK;
}

int32_t comneck_plan::execute() {
  if (!sealed) return fail(COMNECK_MISUSE, "the plan is not sealed");
  const std::lock_guard<std::mutex> turn(context->turn);
  const comneck::FloatEnvironment environment;
  const comneck::Execution execution{memory.data(), scratch.data(), context->pool};
  for (int64_t &stage : nanos) stage = 0;
  auto before = std::chrono::steady_clock::now();
  for (const Entry &entry : steps) {
    entry.step->execute(execution);
    const auto after = std::chrono::steady_clock::now();
    nanos[static_cast<size_t>(entry.stage)] +=
        std::chrono::duration_cast<std::chrono::nanoseconds>(after - before).count();
    before = after;
  }
  return COMNECK_OK;
}
