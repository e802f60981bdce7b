#include "knapsaq/search/mxq.h"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/units.h"
#include "knapsaq/search/knapsack.h"

namespace knapsaq {
namespace {

std::int64_t parameters(const ErrorTable& table) {
  std::int64_t sum = 0;
  for (const ErrorRow& row : table.rows) sum += row.parameters;
  return sum;
}

/// solve_mip(), whose refusal names the smallest size in both units that people give budgets in.
Solution solve_in_bytes(const Problem& problem, std::int64_t weights, const SolveOptions& options) {
  try {
    return solve_mip(problem, options);
  } catch (const InfeasibleError& error) {
    const auto bits = [&](double bytes) { return 8 * bytes / static_cast<double>(weights); };
    // Rounded up, so that asking for the shown number of bits is feasible.
    const double smallest_bits = std::ceil(bits(error.smallest()) * 1e4) / 1e4;
    throw InfeasibleError(
        fmt::format(
            "a budget of {:.0f} bytes ({:.4f} bits per weight) for the linears is too small: their smallest "
            "allocation takes {:.0f} bytes ({:.4f} bits per weight)",
            problem.budget, bits(problem.budget), error.smallest(), smallest_bits),
        error.smallest());
  }
}

}  // namespace

double budget_bytes(const ErrorTable& table, double bits) {
  return bits * static_cast<double>(parameters(table)) / 8;
}

Allocation allocate_mxq(const ErrorTable& table, double budget, std::string_view ties,
                        const SolveOptions& options, Cost cost) {
  Problem problem;
  problem.budget = budget;
  std::vector<std::string> names;
  for (const ErrorRow& row : table.rows) {
    names.push_back(row.name);
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
  const std::vector<std::size_t> groups = tie_groups(names, ties);
  const Solution solution = solve_in_bytes(knapsaq::tie(problem, groups), parameters(table), options);

  Allocation allocation;
  allocation.objective = solution.objective;
  allocation.bound = solution.bound;
  allocation.gap = solution.gap;
  allocation.seconds = solution.seconds;
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    const ErrorCell& cell = table.rows[i].cells[solution.chosen[groups[i]]];
    allocation.schemes.push_back(cell.scheme);
    allocation.bytes += cell.bytes;
  }
  allocation.bits = 8 * static_cast<double>(allocation.bytes) / static_cast<double>(parameters(table));
  return allocation;
}

Allocation allocate_mxq_written(const ErrorTable& table, std::uint64_t budget,
                                const std::function<std::uint64_t(std::span<const Scheme>)>& written,
                                std::string_view ties, const SolveOptions& options, Cost cost) {
  // What is written besides the linears' tensors: embeddings, norms, file headers. Headers depend a little on
  // the allocation (digits of offsets, number of tensors); the largest allocation has the largest.
  std::vector<Scheme> largest;
  double largest_bytes = 0;
  for (const ErrorRow& row : table.rows) {
    const auto cell =
        std::max_element(row.cells.begin(), row.cells.end(),
                         [](const ErrorCell& a, const ErrorCell& b) { return a.bytes < b.bytes; });
    largest.push_back(cell->scheme);
    largest_bytes += static_cast<double>(cell->bytes);
  }
  double rest = static_cast<double>(written(largest)) - largest_bytes;
  while (true) {
    try {
      Allocation allocation = allocate_mxq(table, static_cast<double>(budget) - rest, ties, options, cost);
      const std::uint64_t bytes = written(allocation.schemes);
      if (bytes <= budget) return allocation;
      // A menu whose largest scheme has not the longest header: take what was missing off the budget and go
      // on.
      rest += static_cast<double>(bytes - budget);
    } catch (const InfeasibleError& error) {
      const double smallest = std::ceil(error.smallest() + rest);
      throw InfeasibleError(
          fmt::format("a budget of {} bytes is too small: the smallest model that this menu can make "
                      "takes {:.0f} bytes ({})",
                      budget, smallest, format_bytes(static_cast<std::uint64_t>(smallest))),
          smallest);
    }
  }
}

std::vector<Point> mxq_points(const SearchSpace& space, std::size_t count,
                              std::optional<std::uint64_t> budget) {
  const Knapsack knapsack(knapsack_items(space));
  std::vector<std::uint64_t> budgets = even_budgets(knapsack.smallest(), knapsack.largest(), count);
  if (!budgets.empty() && budget && *budget >= knapsack.smallest() && *budget < knapsack.largest()) {
    // In the place of the nearest.
    *std::ranges::min_element(budgets, {}, [&](std::uint64_t other) {
      return std::max(other, *budget) - std::min(other, *budget);
    }) = *budget;
  }
  std::vector<Point> points;
  for (FrontPoint& point : knapsack.best_within(budgets)) {
    if (points.empty() || points.back() != point.levels) points.push_back(std::move(point.levels));
  }
  return points;
}

}  // namespace knapsaq
