#pragma once

#include <memory>

#include "knapsaq/base/execution.h"
#include "knapsaq/pipeline/listener.h"

namespace knapsaq {

class StatusListener;

struct EnvironmentOptions {
  int threads = 0;               ///< 0: one per core that this process may use
  Listener* listener = nullptr;  ///< null: nobody listens; must outlive the environment
  /// Stops the work: whatever runs throws Cancelled at its next check. Null: nothing does. Must outlive the
  /// environment.
  const Cancellation* cancellation = nullptr;
};

/// What work runs with: threads, a listener and a cancellation. Every function of the pipeline takes one, or
/// a Session that has one. It serves one call at a time; threads of the caller's that work side by side have
/// one each.
class Environment {
 public:
  explicit Environment(const EnvironmentOptions& options = {});
  ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  Listener& listener() const;
  /// The same, for who works on a run.
  StatusListener& status() const;
  /// For an ExecutionScope, which every function of the pipeline has around its work.
  Execution execution() const { return {pool_.get(), cancellation_}; }
  int threads() const { return pool_->size(); }

 private:
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<StatusListener> listener_;  ///< in front of the one of the options
  const Cancellation* cancellation_;
};

}  // namespace knapsaq
