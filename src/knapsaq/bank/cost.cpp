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

constexpr std::array<std::pair<std::string_view, Cost>, kCosts> kNames = {{{"fnorm", Cost::fnorm},
                                                                           {"relative", Cost::relative},
                                                                           {"hessian", Cost::hessian},
                                                                           {"fisher", Cost::fisher}}};

}  // namespace

std::string_view to_string(Cost cost) { return kNames[static_cast<std::size_t>(cost)].first; }

Cost usual_cost(const ErrorTable& table) {
  const auto is_known = [&](Cost cost) {
    return std::ranges::all_of(table.rows, [&](const ErrorRow& row) {
      return std::ranges::none_of(row.cells,
                                  [&](const ErrorCell& cell) { return std::isnan(cost_of(cell, cost)); });
    });
  };
  for (const Cost cost : {Cost::fisher, Cost::hessian})
    if (is_known(cost)) return cost;
  return Cost::fnorm;
}

Cost parse_cost(std::string_view text) {
  for (const auto& [name, cost] : kNames)
    if (text == name) return cost;
  throw UsageError(
      fmt::format("there is no cost {}; the costs are fnorm, relative, hessian, fisher", in_quotes(text)));
}

double cost_of(const ErrorCell& cell, Cost cost) {
  switch (cost) {
    case Cost::relative:
      return cell.relative;
    case Cost::hessian:
      return cell.hessian + cell.lookup;
    case Cost::fisher:
      return cell.fisher;
    case Cost::fnorm:
      break;
  }
  return cell.fnorm;
}

}  // namespace knapsaq
