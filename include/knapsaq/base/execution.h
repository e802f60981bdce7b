#pragma once

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/threads.h"

namespace knapsaq {

/// What the work of a thread runs with: the threads of its loops, and what stops it.
///
/// It is bound to the thread for a scope rather than passed down: every product, quantizer and search has
/// loops, and an argument in each of their signatures would tell nobody anything. Two sessions in one process
/// have their own all the same, one on each thread. The threads of a pool take over the cancellation of the
/// thread whose loop they work on.
struct Execution {
  ThreadPool* pool = nullptr;                  ///< null: process_pool()
  const Cancellation* cancellation = nullptr;  ///< null: nothing stops the work
};

/// The work of this thread runs with `execution` until the scope is left. Scopes nest. Pool and cancellation
/// must outlive it.
class ExecutionScope {
 public:
  explicit ExecutionScope(const Execution& execution) noexcept;
  ~ExecutionScope();
  ExecutionScope(const ExecutionScope&) = delete;
  ExecutionScope& operator=(const ExecutionScope&) = delete;

 private:
  Execution before_;
};

/// What this thread's work runs with now.
Execution current_execution() noexcept;

}  // namespace knapsaq
