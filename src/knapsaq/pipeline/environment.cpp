#include "knapsaq/pipeline/environment.h"

namespace knapsaq {
namespace {

Listener& nobody() {
  static Listener silence;
  return silence;
}

}  // namespace

Environment::Environment(const EnvironmentOptions& options)
    : pool_(std::make_unique<ThreadPool>(options.threads > 0 ? options.threads : available_cores())),
      listener_(options.listener == nullptr ? &nobody() : options.listener),
      cancellation_(options.cancellation) {}

Environment::~Environment() = default;

}  // namespace knapsaq
