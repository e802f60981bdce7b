#include "knapsaq/pipeline/budget.h"

#include "knapsaq/base/error.h"
#include "knapsaq/search/best_point.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

Budget resolve(const BudgetOptions& options, const SearchSpace& space, std::int64_t parameters) {
  const int given = options.bytes.has_value() + (options.bits > 0) + (options.bits_per_weight > 0);
  if (given != 1) throw UsageError("give one of --budget, --bpw and --bits");
  Budget budget;
  if (options.bytes) budget = {*options.bytes, Budget::Of::files};
  if (options.bits_per_weight > 0)
    budget = {bits_budget(options.bits_per_weight, parameters).bytes, Budget::Of::files};
  if (options.bits > 0) budget = bits_budget(options.bits, space.parameters);
  require_feasible(space, budget);
  return budget;
}

}  // namespace knapsaq
