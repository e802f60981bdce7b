#include "knapsaq/search/goal.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/search/best_point.h"

namespace knapsaq {
namespace {

class PaperGoal final : public Goal {
 public:
  explicit PaperGoal(const SearchSpace& space) : space_(space) {}

  double value(const Point& point, const Measurement& measurement) const override {
    return -paper_fitness(measurement.perplexity(), sum_bits(space_, point));
  }

 private:
  const SearchSpace& space_;
};

class BudgetGoal final : public Goal {
 public:
  BudgetGoal(const SearchSpace& space, const Budget& budget, Divergence divergence)
      : space_(space), budget_(budget), divergence_(divergence) {}

  double value(const Point& point, const Measurement& measurement) const override {
    const std::uint64_t bytes = space_.size(point, budget_.of);
    if (bytes > budget_.bytes) {
      const double budget = std::max(1.0, static_cast<double>(budget_.bytes));
      return kWorthless + static_cast<double>(bytes - budget_.bytes) / budget;
    }
    const double divergence = measurement.value(divergence_);
    return std::isfinite(divergence) ? divergence : kWorthless;
  }

 private:
  const SearchSpace& space_;
  Budget budget_;
  Divergence divergence_;
};

/// The cheapest way to remove bytes from one variable.
struct Lowering {
  std::size_t level = 0;
  double loss = 0;  ///< error per byte saved
};

/// Any lower level may be the next one: on menus with several group sizes, the next lower level is often
/// worse than a level further down. The variable must have a level with fewer bytes.
Lowering cheapest_lowering(const Variable& variable, std::size_t level) {
  const SpaceLevel& now = variable.levels[level];
  Lowering best;
  bool found = false;
  for (std::size_t lower = level; lower-- > 0;) {
    const SpaceLevel& then = variable.levels[lower];
    if (then.bytes >= now.bytes) continue;
    const double loss = (then.error - now.error) / static_cast<double>(now.bytes - then.bytes);
    if (!found || loss < best.loss) best = {lower, loss};
    found = true;
  }
  return best;
}

/// The next level with fewer bytes.
std::size_t step_down(const Variable& variable, std::size_t level) {
  const std::uint64_t bytes = variable.levels[level].bytes;
  while (variable.levels[level].bytes == bytes) --level;
  return level;
}

}  // namespace

double paper_fitness(double perplexity, double sum_bits) {
  const double product = perplexity * sum_bits;
  return std::isfinite(product) && product > 0 ? 1000 / product : 0;
}

double sum_bits(const SearchSpace& space, const Point& point) {
  double sum = 0;
  for (std::size_t i = 0; i < space.variables.size(); ++i) sum += space.variables[i].levels[point[i]].bits;
  return sum;
}

std::unique_ptr<Goal> paper_goal(const SearchSpace& space) { return std::make_unique<PaperGoal>(space); }

std::unique_ptr<Goal> budget_goal(const SearchSpace& space, const Budget& budget, Divergence divergence) {
  return std::make_unique<BudgetGoal>(space, budget, divergence);
}

std::unique_ptr<Goal> make_goal(std::string_view name, const SearchSpace& space, std::optional<Budget> budget,
                                Divergence divergence) {
  if (name == "paper") return paper_goal(space);
  if (name != "budget")
    throw UsageError(fmt::format("there is no goal {}; the goals are paper and budget", in_quotes(name)));
  if (!budget) throw UsageError("the goal budget needs a budget in bytes");
  return budget_goal(space, *budget, divergence);
}

Repair::Repair(const SearchSpace& space, const Budget& budget, std::size_t candidates)
    : space_(&space), budget_(budget), smallest_(smallest_point(space, budget.of)), candidates_(candidates) {
  if (!space.fits(smallest_, budget)) require_feasible(space, budget);  // reports why not
  for (const Variable& variable : space.variables) {
    for (const SpaceLevel& level : variable.levels) {
      if (!std::isfinite(level.error)) candidates_ = 1;
    }
  }
}

void Repair::operator()(Point& point, Random& random) const {
  const std::vector<Variable>& variables = space_->variables;
  if (space_->fits(point, budget_)) return;
  std::vector<std::size_t> lowerable;
  const auto can_be_lowered = [&](std::size_t i) {
    return variables[i].levels[point[i]].bytes > variables[i].levels.front().bytes;
  };
  for (std::size_t i = 0; i < variables.size(); ++i) {
    if (can_be_lowered(i)) lowerable.push_back(i);
  }
  do {
    // Files of linears of a few bytes are not always smallest when all linears are.
    if (lowerable.empty()) {
      point = smallest_;
      return;
    }
    std::size_t at = 0;
    std::size_t level = 0;
    if (candidates_ == 1) {
      at = random.below(lowerable.size());
      level = step_down(variables[lowerable[at]], point[lowerable[at]]);
    } else {
      const std::size_t draws = candidates_ == 0 ? lowerable.size() : candidates_;
      double least = std::numeric_limits<double>::infinity();
      for (std::size_t draw = 0; draw < draws; ++draw) {
        const std::size_t candidate = candidates_ == 0 ? draw : random.below(lowerable.size());
        const std::size_t i = lowerable[candidate];
        const Lowering step = cheapest_lowering(variables[i], point[i]);
        if (step.loss >= least) continue;
        least = step.loss;
        at = candidate;
        level = step.level;
      }
    }
    const std::size_t i = lowerable[at];
    point[i] = static_cast<std::uint8_t>(level);
    if (!can_be_lowered(i)) lowerable.erase(lowerable.begin() + static_cast<std::ptrdiff_t>(at));
  } while (!space_->fits(point, budget_));
}

}  // namespace knapsaq
