#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "knapsaq/search/problem.h"

namespace knapsaq {

/// A choice that may be part of an optimal solution, relative to its item's smallest one.
struct Level {
  double cost = 0;          ///< above the item's cheapest level, which is its last
  std::int64_t weight = 0;  ///< size above the item's smallest level, which is its first, in units
  std::size_t choice = 0;   ///< its index in Problem::items[i]
};

/// A Problem without its dominated choices, with sizes as integers, so that every sum of sizes is exact.
/// Within an item, weights ascend from 0 and costs descend to 0.
struct ExactProblem {
  std::vector<std::vector<Level>> items;
  std::int64_t capacity = 0;  ///< the budget minus all smallest levels, in units
  double least_cost = 0;      ///< sum of all cheapest levels; the levels' costs are added to it
  double unit = 1;            ///< one unit of weight in the unit of Choice::size
};

/// Drops choices that another one beats or equals in both cost and size. Sizes become multiples of the
/// largest unit that divides all of them. If they share none within 51 bits (decimal fractions of different
/// length), they are rounded up, and the budget down, by less than 2^-51 of the total. The budget must be at
/// least the sum of the smallest sizes.
ExactProblem make_exact(const Problem& problem);

/// One level for every item.
using Levels = std::vector<std::size_t>;

double total_cost(const ExactProblem& problem, const Levels& levels);
std::int64_t total_weight(const ExactProblem& problem, const Levels& levels);

/// Steps between adjacent corners of the lower convex hull of one item's (weight, cost) points.
struct HullStep {
  std::size_t item = 0;
  std::size_t from = 0;  ///< level
  std::size_t to = 0;
  double saved = 0;         ///< cost
  std::int64_t weight = 0;  ///< above 0
  double rate() const { return saved / static_cast<double>(weight); }
};

/// The steps of all items in the order of their rates, greatest first; within an item they descend strictly.
/// All levels at 0, followed by any prefix of the steps, is an optimal solution of its own weight.
std::vector<HullStep> hull_steps(const ExactProblem& problem);

/// The linear relaxation, which allows fractions of levels. Its optimum is a bound on every solution.
struct Relaxation {
  double price = 0;  ///< the value of a unit of capacity at the optimum: the dual of the budget row
  double bound = 0;  ///< no solution costs less
  Levels rounded;  ///< its one fractional item rounded down and the remaining room given to others: feasible
};

/// Exact, by taking the steps of all items' lower convex hulls in the order of cost saved per unit
/// (Sinha and Zoltners, "The multiple-choice knapsack problem", Operations Research 27, 1979).
Relaxation relax(const ExactProblem& problem);

/// Improves a feasible solution until no change of one or of two items makes it cheaper.
void improve(const ExactProblem& problem, Levels& levels);

/// Only the levels that a solution with a cost of at most `cost` may contain: with any other level, even the
/// relaxation costs more. Such a solution must exist.
ExactProblem keep_promising(const ExactProblem& problem, const Relaxation& relaxation, double cost);

}  // namespace knapsaq
