#include "knapsaq/bank/match_table.h"

#include <map>

#include <fmt/core.h>

#include "knapsaq/base/error.h"

namespace knapsaq {

std::vector<Scheme> schemes_for(const Linear& linear, const Menu& menu) {
  std::vector<Scheme> schemes;
  for (const Scheme& scheme : menu.schemes) schemes.push_back(fitting(scheme, linear.in));
  return schemes;
}

ErrorTable size_table(std::span<const Linear> linears, const Menu& menu) {
  ErrorTable table;
  table.menu = menu.schemes;
  for (const Linear& linear : linears) {
    ErrorRow& row = table.rows.emplace_back();
    row.layer = linear.block;
    row.module = linear.module;
    row.name = linear.name;
    row.parameters = linear.parameters();
    for (const Scheme& scheme : schemes_for(linear, menu))
      row.cells.push_back({scheme, 0, storage_bytes(scheme, linear.out, linear.in)});
  }
  return table;
}

ErrorTable match_table(const ErrorTable& table, std::span<const Linear> linears, std::string_view source) {
  std::map<std::pair<std::int64_t, std::string>, const ErrorRow*> rows;
  for (const ErrorRow& row : table.rows) rows[{row.layer, row.module}] = &row;
  ErrorTable matched;
  matched.menu = table.menu;
  for (const Linear& linear : linears) {
    const auto found = rows.find({linear.block, linear.module});
    if (found == rows.end())
      throw InputError(
          fmt::format("{}: has no row for {}: make the table from this model", source, linear.name));
    ErrorRow row = *found->second;
    if (row.parameters != linear.parameters())
      throw InputError(
          fmt::format("{}: {} has {} weights there and {} in the model: make the table from this model",
                      source, linear.name, row.parameters, linear.parameters()));
    row.name = linear.name;
    for (ErrorCell& cell : row.cells) cell.bytes = storage_bytes(cell.scheme, linear.out, linear.in);
    matched.rows.push_back(std::move(row));
  }
  return matched;
}

}  // namespace knapsaq
