#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "knapsaq/search/problem.h"
#include "knapsaq/search/relaxation.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// A solution of a multiple-choice knapsack.
struct FrontPoint {
  Point levels;             ///< index into items[i]
  double cost = 0;          ///< sum of the chosen costs, in the order of the items
  std::uint64_t bytes = 0;  ///< sum of the chosen sizes
  /// A lower bound on the cost of every solution within this one's budget: `cost`, except for rare problems
  /// that need more memory than is allowed (kMostStates).
  double bound = 0;
};

/// For sizes that are only nearly a sum, such as those of files with headers.
struct NearSum {
  std::uint64_t width = 0;                        ///< a sum that is this far below the budget certainly fits
  std::function<bool(const Point& levels)> fits;  ///< called for other sums
  std::vector<std::vector<std::uint8_t>> alike;   ///< [item][level]: the first level with the same true size
};

/// The exact multiple-choice knapsack for many budgets: one level for every item, least total cost within a
/// budget of bytes. Work that does not depend on the budget is done once. Every solution is optimal to the
/// precision of doubles: to about 1e-14 of the largest difference of costs within an item. Deterministic;
/// nothing here depends on the number of threads.
class Knapsack {
 public:
  /// Costs may be negative. Sizes must be whole numbers of bytes whose sum is below 2^52. `allowed`, if not
  /// empty, lists for every item the levels that it may take (a neighbourhood); solutions nevertheless use
  /// the level numbers of `items`. Throws UsageError for an item without levels or with more than 256, for
  /// costs that are not finite, and for other sizes; std::invalid_argument for invalid lists.
  explicit Knapsack(std::span<const std::vector<Choice>> items,
                    std::span<const std::vector<std::uint8_t>> allowed = {});

  /// Bytes of the smallest solution, and of the smallest among the cheapest ones: larger budgets gain
  /// nothing.
  std::uint64_t smallest() const { return smallest_; }
  std::uint64_t largest() const;

  /// The cheapest solution within the budget; of solutions of equal cost the smallest. Throws
  /// InfeasibleError.
  FrontPoint best_within(std::uint64_t budget) const;
  /// The same for many budgets, several at a time.
  std::vector<FrontPoint> best_within(std::span<const std::uint64_t> budgets) const;
  /// The better one of `known`, a solution that fits, and the cheapest solution within the budget that fits
  /// according to `near`. The bytes of the result are the sum of its sizes, or those of `known`. The budget
  /// must be at least smallest(), and all levels must be allowed.
  FrontPoint best_fitting(std::uint64_t budget, const NearSum& near, FrontPoint known) const;
  /// The solutions that are optimal for some price per byte: the corners of the front's lower convex hull,
  /// and on its edges one for every item that changes. Ascending by bytes, from the smallest to the cheapest.
  std::vector<FrontPoint> hull() const;
  /// Every (bytes, cost) that no solution beats, with one solution each, ascending by bytes; nullopt if this
  /// needs lists of more than `most` partial solutions. Memory: 9 bytes for each of them and each item.
  std::optional<std::vector<FrontPoint>> all(std::size_t most) const;

 private:
  FrontPoint make(const Levels& levels) const;
  FrontPoint make(const ExactProblem& problem, const Levels& levels) const;
  std::size_t steps_within(std::uint64_t budget) const;
  Levels corner(std::size_t steps) const;
  ExactProblem not_beaten(const NearSum& near) const;

  std::vector<std::vector<Choice>> items_;           ///< the allowed ones
  std::vector<std::vector<std::uint8_t>> original_;  ///< [item][choice]: its level in the caller's items
  ExactProblem exact_;
  std::vector<HullStep> steps_;
  std::vector<std::int64_t> weights_;  ///< [n]: of the first n steps
  std::uint64_t smallest_ = 0;
  std::uint64_t unit_ = 1;  ///< bytes of a unit of weight
};

struct KnapsackFrontOptions {
  /// The number of budgets, evenly spaced from the smallest to the largest size, for which the optimum is
  /// found if the front is too long to be listed; 0 returns only the hull.
  std::size_t budgets = 200;
  /// The maximum number of partial solutions for listing the whole front; 0: never list it.
  std::size_t most = 4000;
};

struct KnapsackFront {
  std::vector<FrontPoint> points;  ///< ascending by bytes, descending by cost
  bool complete = false;           ///< nothing is missing; if false: the hull and the optima of the budgets
};

/// The front between the smallest and the cheapest solution. Errors of Knapsack.
KnapsackFront knapsack_front(std::span<const std::vector<Choice>> items,
                             const KnapsackFrontOptions& options = {},
                             std::span<const std::vector<std::uint8_t>> allowed = {});

/// The last point of at most this many bytes; null if there is none.
const FrontPoint* best_within(std::span<const FrontPoint> front, std::uint64_t budget);

/// `count` budgets from the smallest to the largest, including both, at equal distances; ascending, without
/// duplicates.
std::vector<std::uint64_t> even_budgets(std::uint64_t smallest, std::uint64_t largest, std::size_t count);

/// The cost of each level of every variable of a space.
using LevelCosts = std::vector<std::vector<double>>;
/// The local errors of the levels. Throws UsageError, naming the variable, if one is unknown.
LevelCosts errors_of(const SearchSpace& space);

/// The items of a space: bytes and errors of its levels. Throws UsageError, naming the variable, if an error
/// is unknown.
std::vector<std::vector<Choice>> knapsack_items(const SearchSpace& space);

}  // namespace knapsaq
