#include "knapsaq/base/threads.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <thread>
#include <utility>
#include <vector>

#include <sched.h>

#if defined(__x86_64__)
#  include <immintrin.h>
#endif

#include "knapsaq/base/execution.h"

namespace knapsaq {
namespace {

using Clock = std::chrono::steady_clock;

// How long an idle worker looks for the next loop before it sleeps. Between two loops of a generated token
// lie some microseconds, between two tokens (sampling, printing) some tens; waking a sleeper costs as much
// again. An idle pool gives its cores back before anyone notices.
constexpr std::chrono::microseconds kIdleSpin{100};
// How long the caller looks for the end of indices that workers still hold. A piece of a short loop takes
// less; if it takes longer, its worker may have lost its core, and the system moves it to the caller's once
// that sleeps.
constexpr std::chrono::microseconds kEndSpin{50};
// Looks between two looks at the clock, which takes as long as one of these takes.
constexpr int kLooks = 16;

// Two lines, because processors fetch neighbours in pairs.
constexpr std::size_t kApart = 128;

thread_local bool t_inside_loop = false;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

/// True as soon as ready() is, false if it was not for as long as `limit`.
template <class Ready>
bool spin_until(std::chrono::microseconds limit, Ready&& ready) {
  for (int look = 0; look < kLooks; ++look) {
    if (ready()) return true;
    relax();
  }
  const Clock::time_point end = Clock::now() + limit;
  do {
    for (int look = 0; look < kLooks; ++look) {
      if (ready()) return true;
      relax();
    }
  } while (Clock::now() < end);
  return false;
}

}  // namespace

/// One loop at a time lies here. Its indices are counted twice: `unclaimed` by those who take them,
/// `unfinished` by those who did them. Whoever takes one keeps `unfinished` above 0 and so the loop in its
/// place: only then may count, context, call and execution be read, and a thread that comes late finds either
/// nothing to take or an index of the next loop, which is as good.
struct ThreadPool::State {
  /// Indices that nobody has taken; below 0 by those who came too late.
  alignas(kApart) std::atomic<std::int64_t> unclaimed{0};
  alignas(kApart) std::atomic<std::int64_t> unfinished{0};

  alignas(kApart) std::int64_t count = 0;
  const void* context = nullptr;
  Call call = nullptr;
  Execution execution;  ///< of whoever called run()
  std::atomic<bool> failed{false};
  std::exception_ptr failure;

  alignas(kApart) std::atomic<bool> busy{false};  ///< somebody is in run()
  std::atomic<bool> workers_sleep{false};         ///< some worker may need to be woken
  std::atomic<bool> caller_sleeps{false};
  std::atomic<bool> stop{false};
  std::atomic<int> wakes{0};  ///< changes when workers are to wake
  std::atomic<int> ends{0};   ///< changes when the caller is to wake
  std::vector<std::thread> threads;

  bool something_to_do() const {
    return unclaimed.load(std::memory_order_relaxed) > 0 || stop.load(std::memory_order_relaxed);
  }

  /// Takes indices until there are none; returns how many, which the caller takes off `unfinished`.
  std::int64_t work() {
    std::int64_t mine = 0;
    while (true) {
      const std::int64_t left = unclaimed.fetch_sub(1, std::memory_order_acquire);
      if (left <= 0) return mine;
      ++mine;
      if (failed.load(std::memory_order_relaxed)) continue;
      const ExecutionScope scope(execution);
      try {
        call(context, static_cast<std::size_t>(count - left));
      } catch (...) {
        if (!failed.exchange(true)) failure = std::current_exception();
      }
    }
  }

  // No thread ever holds something that another one waits for, but an index. Sleeping is announced before the
  // last look at what is waited for, and that happens before the look at the announcement: sequential
  // consistency of the four makes one of the two looks see it.

  void sleep() {
    const int before = wakes.load();
    workers_sleep.store(true);
    if (unclaimed.load() <= 0 && !stop.load()) wakes.wait(before);
  }

  void wake_workers() {
    if (!workers_sleep.load() || !workers_sleep.exchange(false)) return;
    wakes.fetch_add(1);
    wakes.notify_all();
  }

  void finish(std::int64_t indices) {
    if (indices == 0 || unfinished.fetch_sub(indices) != indices || !caller_sleeps.load()) return;
    ends.fetch_add(1);
    ends.notify_one();
  }

  void wait_for_end() {
    if (spin_until(kEndSpin, [&] { return unfinished.load(std::memory_order_acquire) == 0; })) return;
    caller_sleeps.store(true);
    for (int before = ends.load(); unfinished.load() != 0; before = ends.load()) ends.wait(before);
    caller_sleeps.store(false);
  }

  void serve() {
    t_inside_loop = true;
    while (true) {
      if (!spin_until(kIdleSpin, [&] { return something_to_do(); })) sleep();
      if (stop.load()) return;
      if (unclaimed.load(std::memory_order_relaxed) > 0) finish(work());
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  for (int i = 1; i < threads; ++i) state_->threads.emplace_back([this] { state_->serve(); });
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true);
  state_->wake_workers();
  for (std::thread& thread : state_->threads) thread.join();
}

int ThreadPool::size() const { return static_cast<int>(state_->threads.size()) + 1; }

void ThreadPool::run(std::size_t count, const void* context, Call call) {
  if (count == 0) return;
  State& state = *state_;
  // A loop inside a loop, or of a second thread, finds the workers taken.
  if (t_inside_loop || count == 1 || state.threads.empty() || state.busy.exchange(true)) {
    for (std::size_t i = 0; i < count; ++i) call(context, i);
    return;
  }
  state.count = static_cast<std::int64_t>(count);
  state.context = context;
  state.call = call;
  state.execution = current_execution();
  state.unfinished.store(state.count, std::memory_order_relaxed);
  state.unclaimed.store(state.count);
  state.wake_workers();

  t_inside_loop = true;
  const std::int64_t mine = state.work();
  t_inside_loop = false;
  if (state.unfinished.fetch_sub(mine) != mine) state.wait_for_end();

  std::exception_ptr failure;
  if (state.failed.load()) {
    failure = std::exchange(state.failure, nullptr);
    state.failed.store(false);
  }
  state.busy.store(false);
  if (failure) std::rethrow_exception(failure);
}

int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::thread::hardware_concurrency());
}

ThreadPool& process_pool() {
  static ThreadPool pool(available_cores());
  return pool;
}

}  // namespace knapsaq
