#include <string>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/search/strategies.h"

namespace knapsaq {
namespace {

// In the order in which they are listed to people.
constexpr StrategyInfo (*kStrategies[])() = {
    &front_strategy, &amq_strategy, &ga_strategy,     &pso_strategy,     &sa_strategy,
    &de_strategy,    &mxq_strategy, &random_strategy, &uniform_strategy,
};

}  // namespace

std::span<const StrategyInfo> strategies() {
  static const std::vector<StrategyInfo> all = [] {
    std::vector<StrategyInfo> result;
    for (const auto make : kStrategies) result.push_back(make());
    return result;
  }();
  return all;
}

const StrategyInfo& find_strategy(std::string_view name) {
  std::string known;
  for (const StrategyInfo& strategy : strategies()) {
    if (strategy.name == name) return strategy;
    known += (known.empty() ? "" : ", ") + std::string(strategy.name);
  }
  throw UsageError(fmt::format("there is no strategy {}; the strategies are {}", in_quotes(name), known));
}

}  // namespace knapsaq
