#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <type_traits>

namespace knapsaq {

/// Threads that share the indices of one loop at a time, handed out one by one, so that a thread which loses
/// its core to another process only delays the index it holds. Idle threads spin briefly, then sleep.
class ThreadPool {
 public:
  /// `threads` counts the caller of parallel_for(), which works too; at least 1.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  /// Calls fn(index) for every index in [0, count), in any order, on any thread; returns when all are done.
  /// A loop inside a loop, or one of a second thread meanwhile, runs on the thread that calls. If calls
  /// throw, the remaining indices are skipped and one of the exceptions is thrown here. Results must not
  /// depend on which thread ran an index. The calls see the caller's cancellation (base/execution.h).
  template <class Function>
  void parallel_for(std::size_t count, Function&& fn) {
    using Plain = std::remove_reference_t<Function>;
    run(count, &fn, [](const void* context, std::size_t index) {
      (*static_cast<Plain*>(const_cast<void*>(context)))(index);
    });
  }

 private:
  using Call = void (*)(const void* context, std::size_t index);
  void run(std::size_t count, const void* context, Call call);

  struct State;
  std::unique_ptr<State> state_;
};

/// The pool of this thread's work: that of the ExecutionScope it is in, else process_pool().
ThreadPool& current_pool();
/// The pool of work without one of its own; made on first use with one thread per core.
ThreadPool& process_pool();
/// Cores that this process may run on: under taskset or in a container fewer than the machine has.
int available_cores();

/// Calls fn(index) for every index in [0, count) as parallel_for() does, but every thread walks through
/// indices that follow each other and takes what others have left at its end: for work that reads memory in
/// the order of the indices.
template <class Function>
void parallel_streams(std::size_t count, Function&& fn) {
  struct alignas(64) Stream {  // a cache line each: they are counted up by different threads
    std::atomic<std::size_t> next;
    std::size_t end;
  };
  constexpr std::size_t kMost = 64;
  const std::size_t streams = std::min({static_cast<std::size_t>(current_pool().size()), count, kMost});
  std::array<Stream, kMost> all;
  for (std::size_t s = 0; s < streams; ++s) {
    all[s].next.store(count * s / streams, std::memory_order_relaxed);
    all[s].end = count * (s + 1) / streams;
  }
  current_pool().parallel_for(streams, [&](std::size_t first) {
    for (std::size_t k = 0; k < streams; ++k) {
      Stream& stream = all[(first + k) % streams];
      for (std::size_t i = stream.next.fetch_add(1, std::memory_order_relaxed); i < stream.end;
           i = stream.next.fetch_add(1, std::memory_order_relaxed))
        fn(i);
    }
  });
}

/// current_pool().parallel_for(count, fn).
template <class Function>
void parallel_for(std::size_t count, Function&& fn) {
  current_pool().parallel_for(count, static_cast<Function&&>(fn));
}

}  // namespace knapsaq
