#include "knapsaq/pipeline/allocate.h"

#include <utility>

#include "knapsaq/bank/bank.h"
#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/match_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/pipeline/solve_options.h"
#include "knapsaq/search/mxq.h"

namespace knapsaq {

AllocateResult allocate(Environment& environment, const AllocateOptions& options) {
  const ExecutionScope scope(environment.execution());
  if ((options.bits > 0) == options.bytes.has_value())
    throw UsageError(
        "give either --bits (average per weight of the linears) or --budget (bytes of all matrices)");
  if (options.table.empty() == options.bank.empty()) throw UsageError("give either --table or --bank");
  ErrorTable table = options.table.empty() ? Bank::open(options.bank).table() : read_csv(options.table);
  // The papers' average is one over the linears of the blocks.
  if (options.bits > 0) table = without_ends(std::move(table));
  const Cost cost = options.cost.empty() ? usual_cost(table) : parse_cost(options.cost);
  const std::uint64_t budget = options.bytes ? *options.bytes : budget_bytes(table, options.bits);
  const Allocation found =
      allocate_mxq(table, budget, options.ties, solve_options(options.solver, environment.listener()), cost);
  AllocateResult result{.cost = std::string(to_string(cost)),
                        .objective = found.objective,
                        .bound = found.bound,
                        .gap = found.gap,
                        .bytes = found.bytes,
                        .bits = found.bits,
                        .budget_bytes = budget,
                        .seconds = found.seconds,
                        .allocation = {}};
  for (std::size_t i = 0; i < table.rows.size(); ++i)
    result.allocation.push_back({table.rows[i].name, to_string(found.schemes[i])});
  return result;
}

}  // namespace knapsaq
