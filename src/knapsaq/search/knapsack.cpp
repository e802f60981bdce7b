#include "knapsaq/search/knapsack.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

#include <fmt/format.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/search/core.h"

namespace knapsaq {
namespace {

/// A Point holds level numbers in bytes.
constexpr std::size_t kMostLevels = 256;
/// Sums of sizes are exact as doubles, and so are the multiples of make_exact().
constexpr double kMostBytes = 0x1p52;

void check(std::span<const std::vector<Choice>> items) {
  double total = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (items[i].empty()) throw UsageError(fmt::format("knapsack: item {} has no levels", i));
    if (items[i].size() > kMostLevels)
      throw UsageError(
          fmt::format("knapsack: item {} has {} levels; {} is the most", i, items[i].size(), kMostLevels));
    double largest = 0;
    for (const Choice& choice : items[i]) {
      if (!std::isfinite(choice.cost) || !(choice.size >= 0) || choice.size >= kMostBytes ||
          choice.size != std::floor(choice.size))
        throw UsageError(fmt::format(
            "knapsack: item {} has a level of cost {} and size {}: costs have to be finite, sizes "
            "whole numbers of bytes",
            i, choice.cost, choice.size));
      largest = std::max(largest, choice.size);
    }
    total += largest;
  }
  if (total >= kMostBytes)
    throw UsageError(fmt::format("knapsack: the items take {} bytes together; 2^52 is the most", total));
}

/// Adds one item's levels to all partial solutions of the items before it.
struct ItemStates {
  std::vector<std::int64_t> weights;  ///< ascending
  std::vector<std::uint8_t> levels;   ///< of this item
};

struct Partial {
  std::int64_t weight = 0;
  double cost = 0;
  std::uint8_t level = 0;
};

/// Merges `a` and `b`, both ascending by weight and descending by cost, without dominated and equal elements.
void merge(const std::vector<Partial>& a, const std::vector<Partial>& b, std::vector<Partial>& out) {
  out.clear();
  double least = std::numeric_limits<double>::infinity();
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < a.size() || j < b.size()) {
    bool first = j == b.size();
    if (!first && i < a.size())
      first = a[i].weight != b[j].weight ? a[i].weight < b[j].weight : a[i].cost <= b[j].cost;
    const Partial& next = first ? a[i++] : b[j++];
    if (next.cost >= least) continue;
    least = next.cost;
    out.push_back(next);
  }
}

/// Drops everything that others beat or equal in bytes and cost; ascending by bytes.
void keep_front(std::vector<FrontPoint>& points) {
  std::ranges::stable_sort(points, [](const FrontPoint& a, const FrontPoint& b) {
    return a.bytes != b.bytes ? a.bytes < b.bytes : a.cost < b.cost;
  });
  double least = std::numeric_limits<double>::infinity();
  std::erase_if(points, [&](const FrontPoint& point) {
    if (point.cost >= least) return true;
    least = point.cost;
    return false;
  });
}

}  // namespace

Knapsack::Knapsack(std::span<const std::vector<Choice>> items,
                   std::span<const std::vector<std::uint8_t>> allowed) {
  check(items);
  if (!allowed.empty() && allowed.size() != items.size())
    throw std::invalid_argument(
        fmt::format("knapsack: {} lists of levels for {} items", allowed.size(), items.size()));
  Problem problem;
  for (std::size_t i = 0; i < items.size(); ++i) {
    std::vector<std::uint8_t>& levels = original_.emplace_back();
    if (allowed.empty()) {
      levels.resize(items[i].size());
      std::iota(levels.begin(), levels.end(), std::uint8_t{0});
    } else {
      levels = allowed[i];
    }
    if (levels.empty() || std::ranges::max(levels) >= items[i].size())
      throw std::invalid_argument(fmt::format("knapsack: a bad list of levels for item {}", i));
    std::vector<Choice>& few = problem.items.emplace_back();
    for (const std::uint8_t level : levels) few.push_back(items[i][level]);
    double least = few.front().size;
    for (const Choice& choice : few) least = std::min(least, choice.size);
    smallest_ += static_cast<std::uint64_t>(least);
  }
  problem.budget = kMostBytes;
  exact_ = make_exact(problem);
  unit_ = static_cast<std::uint64_t>(exact_.unit);
  steps_ = hull_steps(exact_);
  weights_.push_back(0);
  for (const HullStep& step : steps_) weights_.push_back(weights_.back() + step.weight);
  items_ = std::move(problem.items);
}

std::uint64_t Knapsack::largest() const {
  return smallest_ + unit_ * static_cast<std::uint64_t>(weights_.back());
}

Levels Knapsack::corner(std::size_t steps) const {
  Levels levels(items_.size(), 0);
  for (std::size_t s = 0; s < steps; ++s) levels[steps_[s].item] = steps_[s].to;
  return levels;
}

FrontPoint Knapsack::make(const Levels& levels) const { return make(exact_, levels); }

FrontPoint Knapsack::make(const ExactProblem& problem, const Levels& levels) const {
  FrontPoint point;
  point.levels.reserve(levels.size());
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const std::size_t choice = problem.items[i][levels[i]].choice;
    point.levels.push_back(original_[i][choice]);
    point.cost += items_[i][choice].cost;
    point.bytes += static_cast<std::uint64_t>(items_[i][choice].size);
  }
  point.bound = point.cost;
  return point;
}

/// How many steps may be taken.
std::size_t Knapsack::steps_within(std::uint64_t budget) const {
  const std::uint64_t units = (budget - smallest_) / unit_;
  if (units >= static_cast<std::uint64_t>(weights_.back())) return steps_.size();
  const auto next = std::ranges::upper_bound(weights_, static_cast<std::int64_t>(units));
  return static_cast<std::size_t>(next - weights_.begin()) - 1;
}

FrontPoint Knapsack::best_within(std::uint64_t budget) const {
  if (budget < smallest_)
    throw InfeasibleError(
        fmt::format("a budget of {} bytes is too small: the smallest solution takes {}", budget, smallest_),
        static_cast<double>(smallest_));
  // The last corner that fits; if it fills the budget or all steps are taken, it is the optimum.
  const std::size_t taken = steps_within(budget);
  const Levels levels = corner(taken);
  if (taken == steps_.size()) return make(levels);
  const auto room = static_cast<std::int64_t>((budget - smallest_) / unit_) - weights_[taken];
  if (room == 0) return make(levels);
  const Completion completion = complete(exact_, levels, room, steps_[taken].rate());
  FrontPoint point = make(completion.levels);
  point.bound -= completion.doubt;
  return point;
}

std::vector<FrontPoint> Knapsack::best_within(std::span<const std::uint64_t> budgets) const {
  std::vector<FrontPoint> points(budgets.size());
  parallel_for(budgets.size(), [&](std::size_t i) { points[i] = best_within(budgets[i]); });
  return points;
}

/// All levels that no other level of their item dominates in every solution: the other one must be smaller by
/// the width, or have the same true size.
ExactProblem Knapsack::not_beaten(const NearSum& near) const {
  ExactProblem problem;
  const auto width = static_cast<double>(near.width);
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const std::vector<Choice>& item = items_[i];
    const auto beats = [&](std::size_t a, std::size_t b) {
      if (item[a].cost > item[b].cost) return false;
      if (item[a].size < item[b].size && item[a].size + width <= item[b].size) return true;
      return near.alike[i][a] == near.alike[i][b] && (item[a].cost < item[b].cost || a < b);
    };
    std::vector<Level>& levels = problem.items.emplace_back();
    double cheapest = std::numeric_limits<double>::infinity();
    double smallest = std::numeric_limits<double>::infinity();
    for (std::size_t l = 0; l < item.size(); ++l) {
      bool beaten = false;
      for (std::size_t other = 0; other < item.size() && !beaten; ++other)
        beaten = other != l && beats(other, l);
      if (beaten) continue;
      levels.push_back({.choice = l});
      cheapest = std::min(cheapest, item[l].cost);
      smallest = std::min(smallest, item[l].size);
    }
    for (Level& level : levels) {
      level.cost = item[level.choice].cost - cheapest;
      level.weight = static_cast<std::int64_t>(item[level.choice].size - smallest);
    }
  }
  return problem;
}

FrontPoint Knapsack::best_fitting(std::uint64_t budget, const NearSum& near, FrontPoint known) const {
  const std::size_t taken = steps_within(budget);
  const Levels levels = corner(taken);
  const FrontPoint start = make(levels);
  const auto room = static_cast<std::int64_t>(budget - start.bytes);
  // After the last step a byte is worth nothing, but a solution that does not fit must still be changed.
  const double price = taken < steps_.size() ? steps_[taken].rate() / static_cast<double>(unit_) : 0;
  const ExactProblem problem = not_beaten(near);
  Levels from;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const std::size_t choice = exact_.items[i][levels[i]].choice;
    from.push_back(static_cast<std::size_t>(std::ranges::find(problem.items[i], choice, &Level::choice) -
                                            problem.items[i].begin()));
  }
  Window window;
  window.width = static_cast<std::int64_t>(near.width);
  window.fits = [&](const Levels& one) { return near.fits(make(problem, one).levels); };
  window.value = known.cost - start.cost + price * static_cast<double>(room);
  const Completion completion = complete(problem, from, room, price, kMostStates, &window);
  FrontPoint best = completion.levels.empty() ? std::move(known) : make(problem, completion.levels);
  best.bound = best.cost - completion.doubt;
  return best;
}

std::vector<FrontPoint> Knapsack::hull() const {
  std::vector<FrontPoint> points;
  points.reserve(steps_.size() + 1);
  Levels levels = corner(0);
  points.push_back(make(levels));
  for (const HullStep& step : steps_) {
    levels[step.item] = step.to;
    points.push_back(make(levels));
  }
  return points;
}

std::optional<std::vector<FrontPoint>> Knapsack::all(std::size_t most) const {
  // Corners with different rates are certainly on the front.
  if (steps_.size() >= most) return std::nullopt;
  std::vector<ItemStates> done;
  std::vector<Partial> partials = {{}};
  std::vector<Partial> merged, shifted, spare;
  for (const std::vector<Level>& levels : exact_.items) {
    check_cancelled();
    merged.clear();
    for (std::size_t l = 0; l < levels.size(); ++l) {
      shifted.clear();
      for (const Partial& partial : partials)
        shifted.push_back(
            {partial.weight + levels[l].weight, partial.cost + levels[l].cost, static_cast<std::uint8_t>(l)});
      merge(merged, shifted, spare);
      merged.swap(spare);
      if (merged.size() > most) return std::nullopt;
    }
    partials.swap(merged);
    ItemStates& states = done.emplace_back();
    for (const Partial& partial : partials) {
      states.weights.push_back(partial.weight);
      states.levels.push_back(partial.level);
    }
  }
  std::vector<FrontPoint> points;
  points.reserve(partials.size());
  Levels levels(items_.size());
  for (const Partial& partial : partials) {
    std::int64_t weight = partial.weight;
    for (std::size_t i = done.size(); i-- > 0;) {
      // The remainder was on the front of the items before: it is in their list.
      const auto found = std::ranges::lower_bound(done[i].weights, weight);
      levels[i] = done[i].levels[static_cast<std::size_t>(found - done[i].weights.begin())];
      weight -= exact_.items[i][levels[i]].weight;
    }
    points.push_back(make(levels));
  }
  // Sums in another order may reverse costs that differ by rounding only.
  keep_front(points);
  return points;
}

std::vector<std::uint64_t> even_budgets(std::uint64_t smallest, std::uint64_t largest, std::size_t count) {
  if (count == 0) return {};
  if (count == 1 || largest <= smallest) return {largest};
  std::vector<std::uint64_t> budgets;
  const std::uint64_t range = largest - smallest;
  const std::uint64_t parts = count - 1;
  // Whole and fractional parts separately: range * i may not fit into 64 bits.
  for (std::uint64_t i = 0; i <= parts; ++i)
    budgets.push_back(smallest + range / parts * i + range % parts * i / parts);
  budgets.erase(std::unique(budgets.begin(), budgets.end()), budgets.end());
  return budgets;
}

KnapsackFront knapsack_front(std::span<const std::vector<Choice>> items, const KnapsackFrontOptions& options,
                             std::span<const std::vector<std::uint8_t>> allowed) {
  const Knapsack knapsack(items, allowed);
  KnapsackFront front;
  if (auto all = knapsack.all(options.most)) {
    front.points = std::move(*all);
    front.complete = true;
    return front;
  }
  front.points = knapsack.hull();
  std::vector<FrontPoint> between =
      knapsack.best_within(even_budgets(knapsack.smallest(), knapsack.largest(), options.budgets));
  std::ranges::move(between, std::back_inserter(front.points));
  keep_front(front.points);
  return front;
}

const FrontPoint* best_within(std::span<const FrontPoint> front, std::uint64_t budget) {
  const auto after =
      std::ranges::upper_bound(front, budget, {}, [](const FrontPoint& point) { return point.bytes; });
  return after == front.begin() ? nullptr : &*(after - 1);
}

LevelCosts errors_of(const SearchSpace& space) {
  LevelCosts costs;
  for (const Variable& variable : space.variables) {
    std::vector<double>& levels = costs.emplace_back();
    for (const SpaceLevel& level : variable.levels) {
      if (std::isnan(level.error))
        throw UsageError(fmt::format(
            "{}: {} errors are not known for {}: take another kind of error, or a bank built with "
            "calibration",
            in_quotes(variable.name), to_string(space.cost), to_string(space.menu[level.choice])));
      levels.push_back(level.error);
    }
  }
  return costs;
}

std::vector<std::vector<Choice>> knapsack_items(const SearchSpace& space) {
  const LevelCosts costs = errors_of(space);
  std::vector<std::vector<Choice>> items;
  for (std::size_t v = 0; v < space.variables.size(); ++v) {
    std::vector<Choice>& item = items.emplace_back();
    for (std::size_t l = 0; l < costs[v].size(); ++l)
      item.push_back({costs[v][l], static_cast<double>(space.variables[v].levels[l].bytes)});
  }
  return items;
}

}  // namespace knapsaq
