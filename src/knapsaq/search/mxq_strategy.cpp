#include <algorithm>
#include <memory>
#include <string>

#include "knapsaq/search/mxq.h"
#include "knapsaq/search/one_batch.h"
#include "knapsaq/search/strategies.h"

namespace knapsaq {
namespace {

/// The space with errors of this kind, "usual": as it is. Throws UsageError for unknown kinds; unknown errors
/// are mxq_points()'s.
SearchSpace with_cost(const SearchSpace& space, const std::string& name) {
  SearchSpace result = space;
  if (name == "usual") return result;
  result.cost = parse_cost(name);
  for (Variable& variable : result.variables)
    for (SpaceLevel& level : variable.levels) level.error = level.error_by(result.cost);
  return result;
}

}  // namespace

/// All of MXQ's allocations in one batch: the errors alone decide, and measuring shows what the choices are
/// worth.
StrategyInfo mxq_strategy() {
  return {"mxq",
          "MXQ: the least sum of the linears' errors at every size, by the exact knapsack",
          {{"points", "32", "sizes, evenly spaced from the smallest to the cheapest allocation"},
           {"cost", "usual",
            "errors: fnorm, relative, hessian, fisher; usual: the last of these that the bank knows"}},
          [](const StrategySetup& setup, const OptionValues& options) -> std::unique_ptr<Strategy> {
            auto count = static_cast<std::size_t>(options.integer("points", 1));
            if (setup.evaluations > 0) count = std::min(count, static_cast<std::size_t>(setup.evaluations));
            return std::make_unique<OneBatch>(
                mxq_points(with_cost(*setup.space, options.text("cost")), count, setup.budget),
                "optima of the table", setup.evaluations);
          }};
}

}  // namespace knapsaq
