// The thread pool does every task once; executing a plan allocates nothing; runs of one context may be executed from
// several threads.
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#include "backend/context.h"
#include "backend/thread_pool.h"
#include "check.h"
#include "comneck.h"

namespace {
std::atomic<int64_t> allocations{0};
}

#if !defined(__SANITIZE_ADDRESS__)
// glibc's own, behind ours: every allocation of the program is counted, whoever makes it.
extern "C" void *__libc_malloc(size_t bytes);
extern "C" void *malloc(size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(bytes);
}
#endif

namespace {

void every_task_once() {
  for (const int32_t threads : {1, 2, 3, 7}) {
    comneck::ThreadPool pool(threads);
    std::vector<std::atomic<int32_t>> done(97);
    std::atomic<bool> bad{false};
    for (int32_t round = 0; round < 400; ++round) {
      const int64_t tasks = round % 97;
      for (auto &count : done) count.store(0);
      pool.run(tasks, [&](int64_t task, int32_t thread) {
        if (thread < 0 || thread >= threads) bad = true;
        done[static_cast<size_t>(task)].fetch_add(1);
      });
      for (int64_t task = 0; task < 97; ++task) CHECK_EQ(done[static_cast<size_t>(task)].load(), task < tasks ? 1 : 0);
      if (round % 100 == 99) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // workers fall asleep
    }
    CHECK(!bad);
  }
}

#if defined(__x86_64__)
// A thread that flushes subnormals to zero and rounds up still gets canonical results, and keeps its habits.
void float_environment_is_ours() {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040u | 0x4000u);
  const unsigned strange = _mm_getcsr();
  for (const int32_t threads : {1, 2}) {
    comneck::ThreadPool pool(threads);
    std::atomic<int32_t> wrong{0};
    pool.run(64, [&](int64_t, int32_t) {
      volatile float tiny = 1e-40f;
      volatile float one = 1.0f;
      if (tiny * one == 0.0f || one + 1e-20f != 1.0f) wrong.fetch_add(1);
    });
    CHECK_EQ(wrong.load(), 0);
    CHECK_EQ(_mm_getcsr() & 0xFFC0u, strange & 0xFFC0u);
  }
  _mm_setcsr(before);
}
#endif

// pixels -> normalize -> 3x3 -> tokens -> LayerNorm -> qkv -> attention -> bf16 layer
struct Network {
  comneck_context *context;
  std::vector<comneck_layer *> layers;
  comneck_plan *plan = nullptr;
  char *memory = nullptr;
  int64_t end = 0;
  comneck_view pixels{};
  comneck_view out{};

  comneck_view buffer(int32_t type, int32_t height, int32_t width, int32_t channels) {
    const int64_t bytes = int64_t{height} * width * channels * (type == COMNECK_F32 ? 4 : type == COMNECK_U8 ? 1 : 2);
    const comneck_view view{end, bytes, type, COMNECK_FULL, 1, height, width, channels, 0, channels};
    end += (bytes + 63) / 64 * 64;
    return view;
  }
  comneck_layer *layer(int32_t inputs, int32_t outputs, int32_t kernel, int32_t precision) {
    const comneck_convolution g{inputs, outputs, kernel, kernel, 1, kernel / 2, COMNECK_DIRECT, precision};
    std::vector<float> weight(static_cast<size_t>(inputs) * outputs * kernel * kernel);
    for (size_t i = 0; i < weight.size(); ++i) weight[i] = static_cast<float>(i % 13) * 0.01f - 0.06f;
    comneck_layer *made = nullptr;
    CHECK_EQ(comneck_layer_create(context, &g, weight.data(), static_cast<int64_t>(weight.size()) * 4, COMNECK_F32,
                                  nullptr, 0, 0, &made),
             COMNECK_OK);
    layers.push_back(made);
    return made;
  }

  explicit Network(comneck_context *owner) : context(owner) {
    CHECK_EQ(comneck_plan_create(context, &plan), COMNECK_OK);
    const std::vector<float> ones(64 * 64, 1.0f);
    pixels = buffer(COMNECK_U8, 8, 8, 3);
    const comneck_view image = buffer(COMNECK_F32, 8, 8, 3);
    comneck_view map = buffer(COMNECK_F32, 8, 8, 48);
    const comneck_view normed = buffer(COMNECK_F32, 1, 64, 48);
    const comneck_view qkv = buffer(COMNECK_F32, 1, 64, 144);
    const comneck_view mixed = buffer(COMNECK_F32, 1, 64, 48);
    out = buffer(COMNECK_BF16, 1, 64, 20);
    CHECK_EQ(comneck_plan_normalize(plan, &pixels, ones.data(), 12, ones.data(), 12, &image), COMNECK_OK);
    CHECK_EQ(
        comneck_plan_convolution(plan, layer(3, 48, 3, COMNECK_PRECISION_F32), &image, 1, nullptr, COMNECK_RELU, &map),
        COMNECK_OK);
    map.width = 64;
    map.height = 1;
    CHECK_EQ(comneck_plan_layer_norm(plan, &map, ones.data(), 192, ones.data(), 192, 1e-5f, &normed), COMNECK_OK);
    CHECK_EQ(comneck_plan_convolution(plan, layer(48, 144, 1, COMNECK_PRECISION_F32), &normed, 1, nullptr, COMNECK_NONE,
                                      &qkv),
             COMNECK_OK);
    CHECK_EQ(comneck_plan_attention(plan, &qkv, 3, &mixed), COMNECK_OK);
    CHECK_EQ(comneck_plan_add(plan, &mixed, &normed, &mixed), COMNECK_OK);
    CHECK_EQ(comneck_plan_convolution(plan, layer(48, 20, 1, COMNECK_PRECISION_BF16), &mixed, 1, nullptr,
                                      COMNECK_QUICK_GELU, &out),
             COMNECK_OK);
    void *address = nullptr;
    CHECK_EQ(comneck_plan_seal(plan, end, &address), COMNECK_OK);
    memory = static_cast<char *>(address);
    for (int64_t i = 0; i < pixels.bytes; ++i) memory[pixels.offset_bytes + i] = static_cast<char>(i * 7);
  }
  ~Network() {
    comneck_plan_destroy(plan);
    for (comneck_layer *made : layers) comneck_layer_destroy(made);
  }
  Network(const Network &) = delete;
  Network &operator=(const Network &) = delete;
};

void nothing_is_allocated() {
  comneck_context *context = nullptr;
  CHECK_EQ(comneck_context_create(3, COMNECK_ISA_AUTO, &context), COMNECK_OK);
  {
    Network network(context);
    CHECK_EQ(comneck_plan_execute(network.plan), COMNECK_OK);
    const int64_t before = allocations.load();
    for (int i = 0; i < 1000; ++i) CHECK_EQ(comneck_plan_execute(network.plan), COMNECK_OK);
    CHECK_EQ(allocations.load(), before);
  }
  comneck_context_destroy(context);
}

void runs_take_turns() {
  comneck_context *context = nullptr;
  CHECK_EQ(comneck_context_create(2, COMNECK_ISA_AUTO, &context), COMNECK_OK);
  {
    Network first(context);
    CHECK_EQ(comneck_plan_execute(first.plan), COMNECK_OK);
    std::vector<char> expected(first.memory + first.out.offset_bytes,
                               first.memory + first.out.offset_bytes + first.out.bytes);
    std::vector<std::thread> callers;
    std::atomic<int32_t> wrong{0};
    for (int t = 0; t < 3; ++t) {
      callers.emplace_back([&] {
        Network own(context);
        for (int i = 0; i < 50; ++i) {
          std::memset(own.memory + own.out.offset_bytes, 0, static_cast<size_t>(own.out.bytes));
          if (comneck_plan_execute(own.plan) != COMNECK_OK ||
              std::memcmp(own.memory + own.out.offset_bytes, expected.data(), expected.size()) != 0) {
            wrong.fetch_add(1);
          }
        }
      });
    }
    for (std::thread &caller : callers) caller.join();
    CHECK_EQ(wrong.load(), 0);
  }
  comneck_context_destroy(context);
}

}  // namespace

int main() {
  every_task_once();
#if defined(__x86_64__)
  float_environment_is_ours();
#endif
  nothing_is_allocated();
  runs_take_turns();
  return 0;
}
