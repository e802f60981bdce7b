#include "knapsaq/pipeline/environment.h"

#include "knapsaq/pipeline/status_listener.h"

namespace knapsaq {
namespace {

Listener& nobody() {
  static Listener silence;
  return silence;
}

}  // namespace

Environment::Environment(const EnvironmentOptions& options)
    : pool_(std::make_unique<ThreadPool>(options.threads > 0 ? options.threads : available_cores())),
      listener_(std::make_unique<StatusListener>(options.listener == nullptr ? nobody() : *options.listener)),
      cancellation_(options.cancellation) {}

Environment::~Environment() = default;

Listener& Environment::listener() const { return *listener_; }

StatusListener& Environment::status() const { return *listener_; }

}  // namespace knapsaq
