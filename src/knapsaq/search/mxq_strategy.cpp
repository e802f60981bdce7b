#include <algorithm>
#include <memory>

#include "knapsaq/search/mxq.h"
#include "knapsaq/search/one_batch.h"
#include "knapsaq/search/strategies.h"

namespace knapsaq {
/// All of MXQ's allocations in one batch: the errors alone decide, and measuring shows what the choices are
/// worth.
StrategyInfo mxq_strategy() {
  return {"mxq",
          "MXQ: the least sum of the linears' errors at every size, by the exact knapsack",
          {{"points", "32", "sizes, evenly spaced from the smallest to the cheapest allocation"}},
          [](const StrategySetup& setup, const OptionValues& options) -> std::unique_ptr<Strategy> {
            auto count = static_cast<std::size_t>(options.integer("points", 1));
            if (setup.evaluations > 0) count = std::min(count, static_cast<std::size_t>(setup.evaluations));
            return std::make_unique<OneBatch>(mxq_points(*setup.space, count, setup.budget),
                                              "optima of the table", setup.evaluations);
          }};
}

}  // namespace knapsaq
