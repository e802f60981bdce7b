#include "knapsaq/search/mxq.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/search/best_point.h"
#include "knapsaq/search/file_knapsack.h"
#include "knapsaq/search/knapsack.h"

namespace knapsaq {
namespace {

using Clock = std::chrono::steady_clock;

std::int64_t parameters(const ErrorTable& table) {
  std::int64_t sum = 0;
  for (const ErrorRow& row : table.rows) sum += row.parameters;
  return sum;
}

/// [row]: the number of its tie group.
std::vector<std::size_t> groups_of(const ErrorTable& table, std::string_view ties) {
  std::vector<std::string> names;
  for (const ErrorRow& row : table.rows) names.push_back(row.name);
  return tie_groups(names, ties);
}

/// One item for every tie group, with the linears' own bytes and without a budget.
Problem problem_of(const ErrorTable& table, const std::vector<std::size_t>& groups, Cost cost) {
  Problem problem;
  for (const ErrorRow& row : table.rows) {
    auto& choices = problem.items.emplace_back();
    for (const ErrorCell& cell : row.cells) {
      const double error = cost_of(cell, cost);
      if (std::isnan(error))
        throw UsageError(
            fmt::format("{}: the table does not know this kind of error for {}: give --cost fnorm, or "
                        "a bank built with calibration",
                        row.name, to_string(cell.scheme)));
      choices.push_back({error, static_cast<double>(cell.bytes)});
    }
  }
  return knapsaq::tie(problem, groups);
}

Solution solution_of(const FrontPoint& point) {
  Solution solution;
  solution.chosen.assign(point.levels.begin(), point.levels.end());
  solution.objective = point.cost;
  solution.bound = point.bound;
  return solution;
}

Allocation allocation_of(const ErrorTable& table, const std::vector<std::size_t>& groups,
                         const Solution& solution, Clock::time_point begin) {
  Allocation allocation;
  allocation.objective = solution.objective;
  allocation.bound = std::min(solution.bound, solution.objective);
  allocation.gap =
      (allocation.objective - allocation.bound) / std::max(std::abs(allocation.objective), 1e-12);
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    const ErrorCell& cell = table.rows[i].cells[solution.chosen[groups[i]]];
    allocation.schemes.push_back(cell.scheme);
    allocation.bytes += cell.bytes;
  }
  allocation.bits = 8 * static_cast<double>(allocation.bytes) / static_cast<double>(parameters(table));
  allocation.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return allocation;
}

/// Problems as items of files: a form for every choice.
std::vector<FileItem> file_items(const Problem& problem, const std::vector<std::size_t>& groups) {
  std::vector<FileItem> items(problem.items.size());
  for (std::size_t row = 0; row < groups.size(); ++row) items[groups[row]].modules.push_back(row);
  for (std::size_t i = 0; i < items.size(); ++i) {
    for (std::size_t c = 0; c < problem.items[i].size(); ++c) {
      items[i].forms.push_back(c);
      items[i].costs.push_back(problem.items[i][c].cost);
    }
  }
  return items;
}

/// HiGHS within a budget for files: over sums that are never too large, and if its true solution is too
/// large, over the remaining budget. The proof of the first solution is the bound.
Solution solve_written(Problem problem, const FileKnapsack& files, const FileSizes& sizes,
                       const std::vector<std::size_t>& groups, std::uint64_t budget, SolveOptions options) {
  const FileSizes::Sum sum = sizes.sum_within(budget);
  for (std::vector<Choice>& item : problem.items)
    for (Choice& choice : item) choice.size = 0;
  for (std::size_t row = 0; row < groups.size(); ++row)
    for (std::size_t c = 0; c < sum.bytes[row].size(); ++c)
      problem.items[groups[row]][c].size += static_cast<double>(sum.bytes[row][c]);
  problem.budget = static_cast<double>(budget) - static_cast<double>(sum.least);
  double bound = -HUGE_VAL;
  while (true) {
    Solution solution;
    try {
      solution = solve_mip(problem, options);
    } catch (const InfeasibleError&) {
      // The smallest solution fits if any does.
      const FrontPoint smallest = files.best_within(std::min(budget, files.smallest().bytes));
      solution = solution_of(smallest);
      solution.bound = bound;
      return solution;
    }
    bound = std::max(bound, solution.bound);
    const std::uint64_t bytes = files.size(Point(solution.chosen.begin(), solution.chosen.end()));
    solution.bound = bound;
    if (bytes <= budget) return solution;
    // Later rounds prove nothing about the given budget.
    problem.budget = solution.size - static_cast<double>(bytes - budget);
    // One time limit for all of them; the rest is enough to take the best immediate solution.
    options.time_limit = std::max(options.time_limit - solution.seconds, 1e-3);
  }
}

}  // namespace

std::uint64_t budget_bytes(const ErrorTable& table, double bits) {
  return bits_budget(bits, parameters(table)).bytes;
}

Allocation allocate_mxq(const ErrorTable& table, std::uint64_t budget, std::string_view ties,
                        const SolveOptions& options, Cost cost) {
  const Clock::time_point begin = Clock::now();
  const std::vector<std::size_t> groups = groups_of(table, ties);
  Problem problem = problem_of(table, groups, cost);
  problem.budget = static_cast<double>(budget);
  try {
    const Solution solution = options.solver == Solver::highs
                                  ? solve_mip(problem, options)
                                  : solution_of(Knapsack(problem.items).best_within(budget));
    return allocation_of(table, groups, solution, begin);
  } catch (const InfeasibleError& error) {
    throw linears_do_not_fit(budget, static_cast<std::uint64_t>(error.smallest()), parameters(table));
  }
}

Allocation allocate_mxq_written(const ErrorTable& table, std::uint64_t budget, const FileSizes& files,
                                std::string_view ties, const SolveOptions& options, Cost cost) {
  const Clock::time_point begin = Clock::now();
  const std::vector<std::size_t> groups = groups_of(table, ties);
  const Problem problem = problem_of(table, groups, cost);
  const FileKnapsack knapsack(files, file_items(problem, groups));
  const Solution solution = options.solver == Solver::highs
                                ? solve_written(problem, knapsack, files, groups, budget, options)
                                : solution_of(knapsack.best_within(budget));
  return allocation_of(table, groups, solution, begin);
}

std::vector<Point> mxq_points(const SearchSpace& space, std::size_t count, std::optional<Budget> budget) {
  const LevelCosts costs = errors_of(space);
  const Knapsack knapsack(knapsack_items(space));
  std::vector<std::uint64_t> budgets = even_budgets(knapsack.smallest(), knapsack.largest(), count);
  std::optional<Point> own;
  if (!budgets.empty() && budget && space.fits(smallest_point(space, budget->of), *budget)) {
    own = best_point(space, costs, *budget).levels;
    const std::uint64_t bytes = space.linear_bytes(*own);
    if (bytes == knapsack.largest()) {
      own.reset();  // the last of the others
    } else {
      // It replaces the nearest.
      budgets.erase(std::ranges::min_element(
          budgets, {}, [&](std::uint64_t other) { return std::max(other, bytes) - std::min(other, bytes); }));
    }
  }
  std::vector<Point> points;
  if (own) points.push_back(*own);
  for (FrontPoint& point : knapsack.best_within(budgets)) points.push_back(std::move(point.levels));
  std::ranges::stable_sort(points, {}, [&](const Point& point) { return space.linear_bytes(point); });
  points.erase(std::unique(points.begin(), points.end()), points.end());
  return points;
}

}  // namespace knapsaq
