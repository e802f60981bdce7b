#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include <Highs.h>
#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/execution.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/search/problem.h"
#include "knapsaq/search/relaxation.h"

namespace knapsaq {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void check(const Problem& problem, const SolveOptions& options) {
  if (std::isnan(problem.budget)) throw UsageError("allocation: the budget is not a number");
  if (!(options.gap >= 0)) throw UsageError("allocation: the gap must not be negative");
  if (!(options.time_limit > 0)) throw UsageError("allocation: the time limit must be positive");
  for (std::size_t i = 0; i < problem.items.size(); ++i) {
    if (problem.items[i].empty()) throw UsageError(fmt::format("allocation: item {} has no choices", i));
    for (const Choice& choice : problem.items[i]) {
      if (std::isfinite(choice.cost) && std::isfinite(choice.size) && choice.size >= 0) continue;
      throw UsageError(
          fmt::format("allocation: item {} has a choice of cost {} and size {}; both have to be finite, "
                      "sizes not negative",
                      i, choice.cost, choice.size));
    }
  }
}

Solution measure(const Problem& problem, std::vector<std::size_t> chosen) {
  Solution solution;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    solution.objective += problem.items[i][chosen[i]].cost;
    solution.size += problem.items[i][chosen[i]].size;
  }
  solution.bound = -std::numeric_limits<double>::infinity();
  solution.chosen = std::move(chosen);
  return solution;
}

/// Every item's first choice in the order of `less`; of equal ones, the first.
template <class Less>
Solution choose(const Problem& problem, Less less) {
  std::vector<std::size_t> chosen;
  for (const std::vector<Choice>& item : problem.items) {
    chosen.push_back(
        static_cast<std::size_t>(std::min_element(item.begin(), item.end(), less) - item.begin()));
  }
  return measure(problem, std::move(chosen));
}

Solution choose(const Problem& problem, const ExactProblem& exact, const Levels& levels) {
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < levels.size(); ++i) chosen.push_back(exact.items[i][levels[i]].choice);
  return measure(problem, std::move(chosen));
}

Solution finish(Solution solution, Clock::time_point begin) {
  solution.bound = std::min(solution.bound, solution.objective);
  solution.gap = (solution.objective - solution.bound) / std::max(std::abs(solution.objective), 1e-12);
  solution.seconds = seconds_since(begin);
  return solution;
}

/// Scales costs and weights so that the absolute tolerances of HiGHS, about 1e-6, are negligible.
struct Scales {
  double cost = 1;
  double weight = 1;
};

Scales scales(const ExactProblem& problem) {
  double cost = 0;
  std::int64_t weight = 0;
  for (const std::vector<Level>& levels : problem.items) {
    cost = std::max(cost, levels.front().cost);
    weight = std::max(weight, levels.back().weight);
  }
  Scales scales;
  // A tolerance of 1e-6 is then 1e-9 of the largest effect of one item.
  if (cost > 0) scales.cost = 1e3 / cost;
  // Integers that are not too large stay integers: HiGHS then rounds the budget row and makes better cuts.
  constexpr std::int64_t kLargest = 1'000'000;
  if (weight > kLargest) scales.weight = static_cast<double>(kLargest) / static_cast<double>(weight);
  return scales;
}

/// One column per level, one row per item, the budget as the last row.
HighsLp make_lp(const ExactProblem& problem, const Scales& scales) {
  HighsLp lp;
  lp.num_row_ = static_cast<HighsInt>(problem.items.size() + 1);
  lp.row_lower_.assign(problem.items.size(), 1.0);
  lp.row_upper_.assign(problem.items.size(), 1.0);
  lp.row_lower_.push_back(-kHighsInf);
  lp.row_upper_.push_back(static_cast<double>(problem.capacity) * scales.weight);
  lp.offset_ = problem.least_cost * scales.cost;
  lp.a_matrix_.format_ = MatrixFormat::kColwise;
  lp.a_matrix_.start_ = {0};
  for (std::size_t i = 0; i < problem.items.size(); ++i) {
    for (const Level& level : problem.items[i]) {
      lp.col_cost_.push_back(level.cost * scales.cost);
      lp.a_matrix_.index_.push_back(static_cast<HighsInt>(i));
      lp.a_matrix_.value_.push_back(1.0);
      if (level.weight > 0) {
        lp.a_matrix_.index_.push_back(lp.num_row_ - 1);
        lp.a_matrix_.value_.push_back(static_cast<double>(level.weight) * scales.weight);
      }
      lp.a_matrix_.start_.push_back(static_cast<HighsInt>(lp.a_matrix_.index_.size()));
    }
  }
  lp.num_col_ = static_cast<HighsInt>(lp.col_cost_.size());
  lp.col_lower_.assign(lp.col_cost_.size(), 0.0);
  lp.col_upper_.assign(lp.col_cost_.size(), 1.0);
  lp.integrality_.assign(lp.col_cost_.size(), HighsVarType::kInteger);
  return lp;
}

struct MipResult {
  Levels levels;     ///< empty if HiGHS has no solution
  double bound = 0;  ///< on the objective with least_cost; -infinity if nothing is proven
};

/// Shows how much of HiGHS's time is left, and the distance from the bound.
class Watch {
 public:
  Watch(Progress& progress, double time_limit)
      : progress_(progress),
        cancellation_(current_execution().cancellation),
        end_(Clock::now() + seconds_of(std::min(time_limit, 1e9))) {
    begin("HiGHS");
  }
  ~Watch() { progress_.end(); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  /// HiGHS asks on threads of its own, too.
  bool cancelled() const { return cancellation_ != nullptr && cancellation_->requested(); }

  void look(double gap) {
    const auto passed = static_cast<std::uint64_t>(seconds_since(begin_));
    progress_.advance(passed - shown_);
    shown_ = passed;
    if (!(gap >= 0 && gap < 1e6)) return;
    std::string what = fmt::format("HiGHS, gap {:.2g} %", 100 * gap);
    if (what == what_) return;
    progress_.end();
    begin(std::move(what));
  }

 private:
  static Clock::duration seconds_of(double seconds) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  }

  /// A new piece of work for every gap, as long as time is left.
  void begin(std::string what) {
    what_ = std::move(what);
    begin_ = Clock::now();
    shown_ = 0;
    const double left = std::chrono::duration<double>(end_ - begin_).count();
    progress_.begin(what_, static_cast<std::uint64_t>(std::max(1.0, left)), "s");
  }

  Progress& progress_;
  const Cancellation* cancellation_;
  Clock::time_point end_;
  Clock::time_point begin_;
  std::uint64_t shown_ = 0;  ///< seconds
  std::string what_;
};

/// `start`, if not empty, is a feasible solution.
MipResult run_highs(const ExactProblem& problem, const Levels& start, double gap, double time_limit,
                    Progress& progress) {
  const Scales scale = scales(problem);
  Highs highs;
  highs.setOptionValue("output_flag", false);
  highs.setOptionValue("threads", 1);
  highs.setOptionValue("parallel", "off");
  highs.setOptionValue("random_seed", 0);
  highs.setOptionValue("time_limit", time_limit);
  highs.setOptionValue("mip_rel_gap", gap);
  highs.setOptionValue("mip_abs_gap", 0.0);
  if (highs.passModel(make_lp(problem, scale)) == HighsStatus::kError) {
    throw Error("allocation: HiGHS refuses the integer program");
  }
  if (!start.empty()) {
    HighsSolution solution;
    for (std::size_t i = 0; i < problem.items.size(); ++i) {
      for (std::size_t l = 0; l < problem.items[i].size(); ++l) {
        solution.col_value.push_back(l == start[i] ? 1.0 : 0.0);
      }
    }
    highs.setSolution(solution);
  }
  // The callback's structures have other names in other versions of HiGHS.
  Watch watch(progress, time_limit);
  const HighsCallbackFunctionType hear = [](int kind, const std::string&, const auto* state, auto* answer,
                                            void* data) {
    auto* own = static_cast<Watch*>(data);
    answer->user_interrupt = own->cancelled();
    // Only the search over integers knows of a gap.
    own->look(kind == kCallbackMipInterrupt ? state->mip_gap : HUGE_VAL);
  };
  highs.setCallback(hear, &watch);
  // For large programs, the first linear relaxation takes most of the time.
  for (const HighsCallbackType kind :
       {kCallbackMipInterrupt, kCallbackSimplexInterrupt, kCallbackIpmInterrupt})
    highs.startCallback(kind);
  highs.run();
  check_cancelled();

  MipResult result;
  double tolerance = 0;
  highs.getOptionValue("mip_feasibility_tolerance", tolerance);
  // HiGHS closes a node whose bound is within this tolerance of the best solution.
  result.bound = (highs.getInfo().mip_dual_bound - tolerance) / scale.cost;
  const std::vector<double>& values = highs.getSolution().col_value;
  if (highs.getInfo().primal_solution_status != kSolutionStatusFeasible) return result;
  auto first = values.begin();
  for (const std::vector<Level>& levels : problem.items) {
    const auto last = first + static_cast<std::ptrdiff_t>(levels.size());
    result.levels.push_back(static_cast<std::size_t>(std::max_element(first, last) - first));
    first = last;
  }
  return result;
}

/// The indices of the choices of `levels` in a problem that contains some of its levels, these among them.
Levels find_levels(const ExactProblem& all, const Levels& levels, const ExactProblem& some) {
  Levels found;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const std::size_t choice = all.items[i][levels[i]].choice;
    const auto same = [&](const Level& level) { return level.choice == choice; };
    found.push_back(static_cast<std::size_t>(std::find_if(some.items[i].begin(), some.items[i].end(), same) -
                                             some.items[i].begin()));
  }
  return found;
}

}  // namespace

Solution solve_mip(const Problem& problem, const SolveOptions& options) {
  const Clock::time_point begin = Clock::now();
  check(problem, options);
  const Solution smallest = choose(problem, [](const Choice& a, const Choice& b) {
    return a.size != b.size ? a.size < b.size : a.cost < b.cost;
  });
  if (smallest.size > problem.budget) {
    throw InfeasibleError(
        fmt::format("a budget of {} is below {}, the smallest possible size", problem.budget, smallest.size),
        smallest.size);
  }
  Solution cheapest = choose(problem, [](const Choice& a, const Choice& b) {
    return a.cost != b.cost ? a.cost < b.cost : a.size < b.size;
  });
  if (cheapest.size <= problem.budget) {
    cheapest.bound = cheapest.objective;
    return finish(std::move(cheapest), begin);
  }

  const ExactProblem exact = make_exact(problem);
  const Relaxation relaxation = relax(exact);
  Levels levels = relaxation.rounded;
  improve(exact, levels);
  Solution best = choose(problem, exact, levels);
  double bound = relaxation.bound + exact.least_cost;

  ExactProblem open = keep_promising(exact, relaxation, total_cost(exact, levels));
  Levels start = find_levels(exact, levels, open);
  for (bool first = true;; first = false) {
    const double time_left = options.time_limit - seconds_since(begin);
    if (time_left <= 0) break;
    const MipResult result = run_highs(open, start, options.gap, time_left, *options.progress);
    // Later rounds have a smaller capacity: their proofs do not hold for the given one.
    if (first) bound = std::max(bound, result.bound);
    if (result.levels.empty()) break;
    const std::int64_t excess = total_weight(open, result.levels) - open.capacity;
    if (excess <= 0) {
      Solution found = choose(problem, open, result.levels);
      if (found.size <= problem.budget && found.objective < best.objective) best = std::move(found);
      break;
    }
    // Within the tolerance of HiGHS, but above the budget: the next round must not use the excess.
    open.capacity -= excess;
    if (open.capacity < 0) break;
    if (!start.empty() && total_weight(open, start) > open.capacity) start.clear();
  }
  best.bound = bound;
  return finish(std::move(best), begin);
}

}  // namespace knapsaq
