#pragma once

#include <memory>
#include <optional>

#include "knapsaq/base/execution.h"

namespace knapsaq {

/// From now on this thread works with a pool of so many threads; 0: with the process's own.
inline void work_with_threads(int threads) {
  static std::optional<ExecutionScope> scope;
  static std::unique_ptr<ThreadPool> pool;
  scope.reset();
  pool.reset();
  if (threads == 0) return;
  pool = std::make_unique<ThreadPool>(threads);
  scope.emplace(Execution{pool.get(), current_execution().cancellation});
}

}  // namespace knapsaq
