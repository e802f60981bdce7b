#include "knapsaq/base/threads.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include <sched.h>

#if defined(__x86_64__)
#  include <immintrin.h>
#endif

namespace knapsaq {
namespace {

// Long enough to bridge the gap between two products of a forward pass (some microseconds), short enough
// that an idle pool gives its cores back before anyone notices.
constexpr int kSpins = 2000;

thread_local bool t_inside_loop = false;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

/// One loop. Threads hold it by shared pointer: a thread that wakes after the loop has ended finds no index
/// left in its own copy and cannot disturb the next loop.
struct Loop {
  std::size_t count;
  const void* context;
  void (*call)(const void*, std::size_t);
  std::atomic<std::size_t> next{0};
  std::atomic<std::size_t> finished{0};
  std::atomic<bool> failed{false};
  std::exception_ptr failure;

  /// True if this call finished the last index.
  bool work() {
    bool last = false;
    for (std::size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
      if (!failed.load(std::memory_order_relaxed)) {
        try {
          call(context, i);
        } catch (...) {
          if (!failed.exchange(true)) failure = std::current_exception();
        }
      }
      last = finished.fetch_add(1, std::memory_order_acq_rel) + 1 == count;
    }
    return last;
  }
};

}  // namespace

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable done;
  std::shared_ptr<Loop> loop;  // guarded by mutex
  std::atomic<std::uint64_t> epoch{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;

  void serve() {
    t_inside_loop = true;
    std::uint64_t seen = 0;
    while (true) {
      for (int spin = 0; spin < kSpins && epoch.load(std::memory_order_acquire) == seen; ++spin) relax();
      std::shared_ptr<Loop> mine;
      {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return stop || epoch.load(std::memory_order_relaxed) != seen; });
        if (stop) return;
        seen = epoch.load(std::memory_order_relaxed);
        mine = loop;
      }
      if (mine && mine->work()) {
        const std::lock_guard lock(mutex);
        done.notify_all();
      }
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  for (int i = 1; i < threads; ++i) state_->threads.emplace_back([this] { state_->serve(); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
    state_->epoch.fetch_add(1);
  }
  state_->wake.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

int ThreadPool::size() const { return static_cast<int>(state_->threads.size()) + 1; }

void ThreadPool::run(std::size_t count, const void* context, Call call) {
  if (count == 0) return;
  if (t_inside_loop || count == 1 || state_->threads.empty()) {
    for (std::size_t i = 0; i < count; ++i) call(context, i);
    return;
  }
  auto loop = std::make_shared<Loop>();
  loop->count = count;
  loop->context = context;
  loop->call = call;
  {
    const std::lock_guard lock(state_->mutex);
    state_->loop = loop;
    state_->epoch.fetch_add(1, std::memory_order_release);
  }
  state_->wake.notify_all();

  t_inside_loop = true;
  loop->work();
  t_inside_loop = false;

  const auto complete = [&] { return loop->finished.load(std::memory_order_acquire) == count; };
  for (int spin = 0; spin < kSpins && !complete(); ++spin) relax();
  if (!complete()) {
    std::unique_lock lock(state_->mutex);
    state_->done.wait(lock, complete);
  }
  if (loop->failed) std::rethrow_exception(loop->failure);
}

namespace {

std::unique_ptr<ThreadPool>& pool_slot() {
  static std::unique_ptr<ThreadPool> pool;
  return pool;
}

std::mutex& pool_mutex() {
  static std::mutex mutex;
  return mutex;
}

/// Cores this process may run on, which under taskset or a container are fewer than the machine's.
int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::thread::hardware_concurrency());
}

}  // namespace

ThreadPool& default_pool() {
  const std::lock_guard lock(pool_mutex());
  if (!pool_slot()) pool_slot() = std::make_unique<ThreadPool>(available_cores());
  return *pool_slot();
}

void set_default_threads(int threads) {
  const std::lock_guard lock(pool_mutex());
  pool_slot() = std::make_unique<ThreadPool>(threads > 0 ? threads : available_cores());
}

}  // namespace knapsaq
