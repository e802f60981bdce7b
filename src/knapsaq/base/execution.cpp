#include "knapsaq/base/execution.h"

#include <utility>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

thread_local Execution t_execution;

}  // namespace

ExecutionScope::ExecutionScope(const Execution& execution) noexcept
    : before_(std::exchange(t_execution, execution)) {}

ExecutionScope::~ExecutionScope() { t_execution = before_; }

Execution current_execution() noexcept { return t_execution; }

ThreadPool& current_pool() {
  ThreadPool* pool = t_execution.pool;
  return pool == nullptr ? process_pool() : *pool;
}

bool cancel_requested() noexcept {
  const Cancellation* cancellation = t_execution.cancellation;
  return cancellation != nullptr && cancellation->requested();
}

void check_cancelled() {
  if (cancel_requested()) throw Cancelled();
}

}  // namespace knapsaq
