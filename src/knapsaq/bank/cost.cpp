#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {

namespace {

constexpr std::array<std::pair<std::string_view, Cost>, 3> kCosts = {
    {{"fnorm", Cost::fnorm}, {"relative", Cost::relative}, {"hessian", Cost::hessian}}};

}  // namespace

std::string_view to_string(Cost cost) { return kCosts[static_cast<std::size_t>(cost)].first; }

Cost usual_cost(const ErrorTable& table) {
  const bool hessian = std::ranges::all_of(table.rows, [](const ErrorRow& row) {
    return std::ranges::none_of(row.cells, [](const ErrorCell& cell) { return std::isnan(cell.hessian); });
  });
  return hessian ? Cost::hessian : Cost::fnorm;
}

Cost parse_cost(std::string_view text) {
  for (const auto& [name, cost] : kCosts)
    if (text == name) return cost;
  throw UsageError(
      fmt::format("there is no cost {}; the costs are fnorm, relative, hessian", in_quotes(text)));
}

double cost_of(const ErrorCell& cell, Cost cost) {
  switch (cost) {
    case Cost::relative:
      return cell.relative;
    case Cost::hessian:
      return cell.hessian + cell.lookup;
    case Cost::fnorm:
      break;
  }
  return cell.fnorm;
}

}  // namespace knapsaq
