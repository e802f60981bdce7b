#include <deque>
#include <mutex>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/search/strategies.h"

namespace knapsaq {
namespace {

// In the order of the list for people.
constexpr StrategyInfo (*kStrategies[])() = {
    &front_strategy, &amq_strategy, &ga_strategy,     &pso_strategy,     &sa_strategy,
    &de_strategy,    &mxq_strategy, &random_strategy, &uniform_strategy,
};

// A deque, because what is found stays where it is when more are added.
struct Registry {
  std::mutex mutex;
  std::deque<StrategyInfo> all;

  Registry() {
    for (const auto make : kStrategies) all.push_back(make());
  }
};

Registry& registry() {
  static Registry strategies;
  return strategies;
}

}  // namespace

std::vector<StrategyInfo> strategies() {
  Registry& known = registry();
  const std::lock_guard lock(known.mutex);
  return {known.all.begin(), known.all.end()};
}

const StrategyInfo& find_strategy(std::string_view name) {
  Registry& known = registry();
  const std::lock_guard lock(known.mutex);
  std::string names;
  for (const StrategyInfo& strategy : known.all) {
    if (strategy.name == name) return strategy;
    names += (names.empty() ? "" : ", ") + std::string(strategy.name);
  }
  throw UsageError(fmt::format("there is no strategy {}; the strategies are {}", in_quotes(name), names));
}

void register_strategy(StrategyInfo strategy) {
  Registry& known = registry();
  const std::lock_guard lock(known.mutex);
  for (const StrategyInfo& one : known.all)
    if (one.name == strategy.name)
      throw UsageError(fmt::format("there is a strategy {} already", in_quotes(strategy.name)));
  known.all.push_back(std::move(strategy));
}

}  // namespace knapsaq
