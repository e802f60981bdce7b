#pragma once

#include <atomic>

namespace knapsaq {

/// Lets one thread, or a signal handler, stop the work of another. Work that runs under it (ExecutionScope)
/// throws Cancelled at its next check; what is finished by then stays.
class Cancellation {
 public:
  /// Safe inside a signal handler.
  void request() noexcept { requested_.store(true, std::memory_order_relaxed); }
  /// Makes it usable again, once the work that it stopped has ended.
  void reset() noexcept { requested_.store(false, std::memory_order_relaxed); }
  bool requested() const noexcept { return requested_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> requested_{false};
  static_assert(std::atomic<bool>::is_always_lock_free, "request() runs inside signal handlers");
};

/// Whether the work of this thread is to stop. False on a thread without a cancellation.
bool cancel_requested() noexcept;
/// Throws Cancelled if cancel_requested(). Long loops call it once per unit of work.
void check_cancelled();

}  // namespace knapsaq
