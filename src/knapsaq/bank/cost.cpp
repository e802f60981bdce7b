#include <array>
#include <string>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {

Cost parse_cost(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, Cost>, 3> kCosts = {
      {{"fnorm", Cost::fnorm}, {"relative", Cost::relative}, {"hessian", Cost::hessian}}};
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
      return cell.hessian;
    case Cost::fnorm:
      break;
  }
  return cell.fnorm;
}

}  // namespace knapsaq
