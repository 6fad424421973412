// The threads of a context. One parallel loop at a time; tasks are claimed one by one, so that a thread that the
// machine holds up delays nobody. Results never depend on who computes which task.
#ifndef COMNECK_BACKEND_THREAD_POOL_H
#define COMNECK_BACKEND_THREAD_POOL_H

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>

namespace comneck {

class ThreadPool {
 public:
  // threads: all that work, the caller's included; at least 1.
  explicit ThreadPool(int32_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  int32_t threads() const { return threads_; }

  // Calls body(task, thread) for every task in 0..tasks-1, thread in 0..threads()-1; returns when all are done. The
  // body throws nothing, and finds round to nearest without flushing to zero. Allocates nothing. Not reentrant, and to
  // be called by one thread at a time.
  template <class Body>
  void run(int64_t tasks, const Body &body) {
    start(
        tasks,
        [](const void *argument, int64_t task, int32_t thread) {
          (*static_cast<const Body *>(argument))(task, thread);
        },
        &body);
  }

 private:
  using Call = void (*)(const void *argument, int64_t task, int32_t thread);

  void start(int64_t tasks, Call call, const void *argument);
  void work(uint32_t epoch, int32_t thread);
  void loop(int32_t thread);

  const int32_t threads_;
  std::unique_ptr<std::thread[]> workers_;

  // The loop in progress. A worker may read these while they change: it then fails to claim a task, because state_ has
  // moved on.
  std::atomic<Call> call_{nullptr};
  std::atomic<const void *> argument_{nullptr};
  std::atomic<uint32_t> tasks_{0};

  alignas(64) std::atomic<uint64_t> state_{0};  // epoch << 32 | next task; 0xFFFFFFFF: none can be claimed
  alignas(64) std::atomic<uint32_t> done_{0};   // finished tasks of this epoch
  std::atomic<uint32_t> waiting_{0};            // 1: the caller sleeps until done_ changes
  alignas(64) std::atomic<uint32_t> epoch_{0};  // what idle workers watch
  std::atomic<uint32_t> sleepers_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace comneck

#endif
