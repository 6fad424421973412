#include "backend/thread_pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <climits>

#include "backend/float_environment.h"

namespace comneck {
namespace {

constexpr uint32_t kClosed = 0xFFFFFFFFu;
// How long a thread watches before it sleeps. Steps of a run follow each other within microseconds; waking a sleeper
// costs about fifty.
constexpr std::chrono::microseconds kWatch{60};

static_assert(sizeof(std::atomic<uint32_t>) == 4 && std::atomic<uint32_t>::is_always_lock_free);

void sleep_while(std::atomic<uint32_t> &word, uint32_t value) {
  syscall(SYS_futex, reinterpret_cast<uint32_t *>(&word), FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

void wake_all(std::atomic<uint32_t> &word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t *>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Watches until ready() or the time is over.
template <class Ready>
bool watch(const Ready &ready) {
  const auto end = std::chrono::steady_clock::now() + kWatch;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

}  // namespace

ThreadPool::ThreadPool(int32_t threads)
    : threads_(threads), workers_(std::make_unique<std::thread[]>(static_cast<size_t>(threads - 1))) {
  // Signals are the host program's business, not ours; except those that tell of a fault in this very thread, which a
  // JVM reports.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  for (const int fault : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) sigdelset(&all, fault);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    for (int32_t i = 0; i + 1 < threads_; ++i) {
      workers_[static_cast<size_t>(i)] = std::thread([this, i] { loop(i + 1); });
      pthread_setname_np(workers_[static_cast<size_t>(i)].native_handle(), "comneck");
    }
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    stop_.store(true);
    epoch_.fetch_add(1);
    wake_all(epoch_);
    for (int32_t i = 0; i + 1 < threads_; ++i) {
      if (workers_[static_cast<size_t>(i)].joinable()) workers_[static_cast<size_t>(i)].join();
    }
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  epoch_.fetch_add(1);
  wake_all(epoch_);
  for (int32_t i = 0; i + 1 < threads_; ++i) workers_[static_cast<size_t>(i)].join();
}

void ThreadPool::start(int64_t tasks, Call call, const void *argument) {
  if (tasks <= 0) return;
  const FloatEnvironment environment;
  if (threads_ == 1 || tasks == 1) {
    for (int64_t task = 0; task < tasks; ++task) call(argument, task, 0);
    return;
  }
  const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  // Close first: a straggler of the last loop must not take the new loop's numbers for its own.
  state_.store(uint64_t{epoch} << 32 | kClosed, std::memory_order_seq_cst);
  call_.store(call, std::memory_order_relaxed);
  argument_.store(argument, std::memory_order_relaxed);
  tasks_.store(static_cast<uint32_t>(tasks), std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  waiting_.store(0, std::memory_order_relaxed);
  state_.store(uint64_t{epoch} << 32, std::memory_order_release);
  epoch_.store(epoch, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) wake_all(epoch_);

  work(epoch, 0);
  const auto all = static_cast<uint32_t>(tasks);
  const auto finished = [&] { return done_.load(std::memory_order_acquire) == all; };
  while (!watch(finished)) {
    waiting_.store(1, std::memory_order_seq_cst);
    const uint32_t done = done_.load(std::memory_order_seq_cst);
    if (done != all) sleep_while(done_, done);
  }
}

void ThreadPool::work(uint32_t epoch, int32_t thread) {
  for (;;) {
    uint64_t state = state_.load(std::memory_order_acquire);
    if (static_cast<uint32_t>(state >> 32) != epoch) return;
    const auto task = static_cast<uint32_t>(state);
    const Call call = call_.load(std::memory_order_relaxed);
    const void *argument = argument_.load(std::memory_order_relaxed);
    const uint32_t tasks = tasks_.load(std::memory_order_relaxed);
    if (task >= tasks) return;
    if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) continue;
    call(argument, task, thread);
    const uint32_t done = done_.fetch_add(1, std::memory_order_seq_cst) + 1;
    if (thread != 0 && done == tasks && waiting_.load(std::memory_order_seq_cst) != 0) wake_all(done_);
  }
}

void ThreadPool::loop(int32_t thread) {
  const FloatEnvironment environment;
  uint32_t seen = 0;
  for (;;) {
    const auto changed = [&] { return epoch_.load(std::memory_order_acquire) != seen; };
    while (!watch(changed)) {
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      if (epoch_.load(std::memory_order_seq_cst) == seen) sleep_while(epoch_, seen);
      sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    }
    seen = epoch_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_acquire)) return;
    work(seen, thread);
  }
}

}  // namespace comneck
