#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "knapsaq/base/random.h"
#include "knapsaq/search/strategy.h"

namespace knapsaq {

/// The goal value of a point that must not win (over the budget, or a model that computes no finite numbers),
/// and the smallest of all such values. It is far above any divergence, which for a model that predicts
/// nothing is the logarithm of its vocabulary, about 12.
inline constexpr double kWorthless = 1e9;

/// 1000 / (perplexity x sum of b_i) (metaheuristic paper, section 3.5). 0 for a perplexity that is not finite
/// or not positive, for which the paper says "a small constant".
double paper_fitness(double perplexity, double sum_bits);

/// The sum of b_i: SpaceLevel::bits of all variables' levels.
double sum_bits(const SearchSpace& space, const Point& point);

/// Minus paper_fitness(), so that it is minimised. `space` must outlive the goal.
std::unique_ptr<Goal> paper_goal(const SearchSpace& space);

/// The divergence of points that fit. For others, kWorthless plus the share by which they exceed the budget,
/// so that of two such points the smaller one is better.
std::unique_ptr<Goal> budget_goal(const SearchSpace& space, const Budget& budget, Divergence divergence);

/// "paper" or "budget". Throws UsageError for any other name, and for "budget" without a budget.
std::unique_ptr<Goal> make_goal(std::string_view name, const SearchSpace& space, std::optional<Budget> budget,
                                Divergence divergence);

/// Makes points fit a budget before they are measured, so that no measurement is spent on points that cannot
/// win.
class Repair {
 public:
  /// `candidates`: the number of variables drawn for each step, of which the one that loses least by its
  /// cheapest step is lowered; 1: a random one; 0: all variables, the plain greedy rule. Loss is the increase
  /// of SpaceLevel::error per byte saved; if errors are unknown, the variables are drawn at random. Throws
  /// InfeasibleError like require_feasible().
  Repair(const SearchSpace& space, const Budget& budget, std::size_t candidates);

  /// Lowers levels until the point is within the budget; a point that fits is left unchanged. The same point
  /// and state of `random` give the same result.
  void operator()(Point& point, Random& random) const;

 private:
  const SearchSpace* space_;
  Budget budget_;
  Point smallest_;  ///< of the budget's kind
  std::size_t candidates_;
};

}  // namespace knapsaq
