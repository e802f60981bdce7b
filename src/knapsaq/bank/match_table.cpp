#include "knapsaq/bank/match_table.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

Scheme scheme_for(const Matrix& matrix, const Scheme& scheme) {
  if (matrix.is_multiplied() || quantizer(scheme.method).needs() != Needs::second_moments)
    return fitting(scheme, matrix.whole_columns());
  Scheme other = scheme;
  other.method = "hqq-diag";
  try {
    quantizer(other.method).check(other);
  } catch (const UsageError&) {
    other.method = "rtn-diag";
  }
  return other;
}

namespace {

/// With groups that fill rows of `in` weights.
Scheme with_whole_groups(Scheme scheme, std::int64_t in) {
  if (ggml_type(scheme) || scheme == nf4_scheme() || scheme.group == 0) return scheme;
  while (scheme.group > 32 && in % scheme.group != 0) scheme.group /= 2;
  if (in % scheme.group != 0)
    throw UsageError(fmt::format("{}: rows of {} weights are not whole groups of 32", to_string(scheme), in));
  return scheme;
}

}  // namespace

std::vector<Scheme> schemes_for(const Matrix& matrix, const Menu& menu) {
  std::vector<Scheme> schemes;
  for (const Scheme& scheme : menu.schemes)
    schemes.push_back(scheme_for(matrix, menu.whole_groups ? with_whole_groups(scheme, matrix.in) : scheme));
  return schemes;
}

std::string fallback_note(std::span<const Matrix> matrices, std::span<const Scheme> schemes) {
  std::size_t count = 0;
  std::set<std::int64_t> widths;
  std::map<std::string, std::vector<std::string>> replaced;  // by what the matrices get
  for (const Matrix& matrix : matrices) {
    bool falls_back = false;
    for (const Scheme& scheme : schemes) {
      if (!ggml_type(scheme)) continue;
      const Scheme other = fitting(scheme, matrix.whole_columns());
      if (other == scheme) continue;
      falls_back = true;
      std::vector<std::string>& names = replaced[to_string(other)];
      if (std::ranges::find(names, to_string(scheme)) == names.end()) names.push_back(to_string(scheme));
    }
    if (!falls_back) continue;
    ++count;
    widths.insert(matrix.in);
  }
  if (count == 0) return {};
  std::vector<std::string> pairs;
  for (const auto& [other, names] : replaced)
    pairs.push_back(fmt::format("{} instead of {}", other, fmt::join(names, ", ")));
  return fmt::format("{} of {} matrices have rows of {} weights, no whole blocks of some types: they get {}",
                     count, matrices.size(), fmt::join(widths, ", "), fmt::join(pairs, "; "));
}

ErrorTable size_table(std::span<const Matrix> linears, const Menu& menu) {
  ErrorTable table;
  table.menu = menu.schemes;
  for (const Matrix& linear : linears) {
    ErrorRow& row = table.rows.emplace_back();
    row.layer = linear.block;
    row.module = linear.module;
    row.name = linear.name;
    row.tied = linear.tied;
    row.parameters = linear.parameters();
    for (const Scheme& scheme : schemes_for(linear, menu))
      row.cells.push_back({scheme, 0, storage_bytes(scheme, linear.out, linear.in)});
  }
  return table;
}

ErrorTable without(ErrorTable table, std::span<const std::string> kept) {
  std::erase_if(table.rows,
                [&](const ErrorRow& row) { return std::ranges::find(kept, row.name) != kept.end(); });
  return table;
}

ErrorTable without_ends(ErrorTable table) {
  std::erase_if(table.rows, [](const ErrorRow& row) { return row.layer < 0; });
  return table;
}

ErrorTable match_table(const ErrorTable& table, std::span<const Matrix> linears, std::string_view source) {
  std::map<std::pair<std::int64_t, std::string>, const ErrorRow*> rows;
  for (const ErrorRow& row : table.rows) rows[{row.layer, row.module}] = &row;
  ErrorTable matched;
  matched.menu = table.menu;
  for (const Matrix& linear : linears) {
    const auto found = rows.find({linear.block, linear.module});
    // The authors' tables have the linears of the blocks only.
    if (found == rows.end() && !linear.in_block()) continue;
    if (found == rows.end())
      throw InputError(
          fmt::format("{}: has no row for {}: make the table from this model", source, linear.name));
    ErrorRow row = *found->second;
    if (row.parameters != linear.parameters())
      throw InputError(
          fmt::format("{}: {} has {} weights there and {} in the model: make the table from this model",
                      source, linear.name, row.parameters, linear.parameters()));
    row.name = linear.name;
    row.tied = linear.tied;
    for (ErrorCell& cell : row.cells) cell.bytes = storage_bytes(cell.scheme, linear.out, linear.in);
    matched.rows.push_back(std::move(row));
  }
  return matched;
}

}  // namespace knapsaq
