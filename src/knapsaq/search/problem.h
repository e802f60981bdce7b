#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/base/progress.h"

namespace knapsaq {

/// One way to store one linear (or tie group): its cost for the model and its size on disk.
struct Choice {
  double cost = 0;
  double size = 0;  ///< in the unit of the budget (bytes)
};

/// A multiple-choice knapsack: one choice for every item, least total cost, total size <= budget.
struct Problem {
  std::vector<std::vector<Choice>> items;  ///< items[i][c]
  double budget = 0;
};

/// A solution and what is proven about it.
struct Solution {
  std::vector<std::size_t> chosen;  ///< index into items[i]
  double objective = 0;
  double bound = 0;  ///< no solution costs less than this
  double gap = 0;    ///< (objective - bound) / max(|objective|, 1e-12)
  double size = 0;
  double seconds = 0;
};

/// The solver. MXQ's program is a plain multiple-choice knapsack, which Knapsaq's own solver solves exactly
/// in a fraction of a second. HiGHS, which the paper uses, is for comparison, and each verifies the other.
enum class Solver : std::uint8_t { knapsack, highs };

struct SolveOptions {
  Solver solver = Solver::knapsack;
  Progress* progress = &Progress::none();  ///< receives HiGHS's progress
  // For HiGHS only: the knapsack always runs to the end.
  double gap = 0;  ///< stop at this relative gap; 0: prove optimality (as far as doubles allow: about 1e-11)
  double time_limit = 60;  ///< seconds; the best solution so far is returned with its gap
};

/// MXQ Eq. 3 by HiGHS: binaries x[i][c], one choice per item, the budget row. HiGHS receives what dominance
/// and the bound of the relaxation leave open, and a good starting solution. The budget is hard: sizes are
/// summed exactly, not within a solver's tolerance. Of choices of equal cost, the smallest is taken.
/// Deterministic (one thread, fixed seed) unless the time limit is reached. Throws InfeasibleError with the
/// smallest possible size if the budget is below it, UsageError for an item without choices and for costs or
/// sizes that are not finite or sizes below 0, Cancelled.
Solution solve_mip(const Problem& problem, const SolveOptions& options = {});

/// Which linears must share a scheme. `names` are module paths; the result maps each to a group number, in
/// order of first appearance. The specification is a comma-separated list of `none`, `qkv`, `gate-up`, `vllm`
/// (both of these, which vLLM and SGLang run as one matrix each), `q-gate` (q and the gate of attention,
/// which files have in one matrix), `experts` (a projection of all experts of a layer, which engines keep as
/// one stack), `layer`.
std::vector<std::size_t> tie_groups(const std::vector<std::string>& names, std::string_view specification);

/// One item per tie group: costs and sizes of its members summed. All members need the same number of
/// choices.
Problem tie(const Problem& problem, const std::vector<std::size_t>& groups);

}  // namespace knapsaq
