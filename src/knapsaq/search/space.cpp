#include "knapsaq/search/space.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include <fmt/format.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/file_sizes.h"
#include "knapsaq/search/make_space.h"
#include "knapsaq/search/pins.h"
#include "knapsaq/search/problem.h"

namespace knapsaq {
namespace {

/// A Point holds level numbers in bytes.
constexpr std::size_t kMostLevels = 256;

const SpaceLevel& level_of(const SearchSpace& space, const Point& point, std::size_t variable) {
  const std::vector<SpaceLevel>& levels = space.variables[variable].levels;
  if (point[variable] >= levels.size())
    throw std::invalid_argument(
        fmt::format("point: {} has no level {}", space.variables[variable].name, point[variable]));
  return levels[point[variable]];
}

void check_size(const SearchSpace& space, const Point& point) {
  if (point.size() != space.variables.size())
    throw std::invalid_argument(
        fmt::format("point: {} numbers for {} variables", point.size(), space.variables.size()));
}

/// Whether two choices store all linears of a variable alike.
bool same_schemes(const SearchSpace& space, const Variable& variable, std::size_t a, std::size_t b) {
  return std::ranges::all_of(variable.linears, [&](std::size_t linear) {
    return space.schemes[linear][a] == space.schemes[linear][b];
  });
}

void check(const ErrorTable& table) {
  if (table.menu.empty()) throw UsageError("search space: the table's menu is empty");
  if (table.menu.size() > kMostLevels)
    throw UsageError(
        fmt::format("search space: the menu has {} schemes; {} is the most", table.menu.size(), kMostLevels));
  if (table.rows.empty()) throw UsageError("search space: the table has no linears");
  for (const ErrorRow& row : table.rows) {
    if (row.cells.size() != table.menu.size())
      throw UsageError(fmt::format("search space: {} has {} schemes where the menu has {}",
                                   in_quotes(row.name), row.cells.size(), table.menu.size()));
    if (row.parameters < 1)
      throw UsageError(fmt::format("search space: {} has {} weights", in_quotes(row.name), row.parameters));
  }
}

/// The variables of the table, without levels.
std::vector<Variable> variables_of(const ErrorTable& table, const std::vector<std::size_t>& groups) {
  std::vector<Variable> variables;
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    const ErrorRow& row = table.rows[i];
    if (groups[i] == variables.size()) {
      variables.emplace_back().name = row.name;
      variables.back().block = row.layer;
    }
    variables[groups[i]].linears.push_back(i);
    variables[groups[i]].parameters += row.parameters;
  }
  for (Variable& variable : variables) {
    if (variable.linears.size() > 1) variable.name += fmt::format(" +{}", variable.linears.size() - 1);
  }
  return variables;
}

/// The choices that one constraint allows for a variable.
struct Restriction {
  const Pin* pin = nullptr;
  std::vector<bool> allowed;  ///< [choice]
};

bool any(const std::vector<bool>& values) { return std::ranges::find(values, true) != values.end(); }

std::vector<bool> both(std::vector<bool> a, const std::vector<bool>& b) {
  for (std::size_t c = 0; c < a.size(); ++c) a[c] = a[c] && b[c];
  return a;
}

/// The choices that all constraints of a variable allow.
std::vector<bool> allowed_by_all(const Variable& variable, std::size_t choices,
                                 const std::vector<Restriction>& restrictions) {
  std::vector<bool> allowed(choices, true);
  for (const Restriction& last : restrictions) {
    allowed = both(std::move(allowed), last.allowed);
    if (any(allowed)) continue;
    const std::string text = in_quotes(to_string(*last.pin));
    if (!any(last.allowed))
      throw UsageError(
          fmt::format("pin {}: the menu has no such scheme for {}", text, in_quotes(variable.name)));
    for (const Restriction& other : restrictions) {
      if (any(both(last.allowed, other.allowed))) continue;
      throw UsageError(
          fmt::format("pins {} and {} contradict each other: no scheme of the menu is left for {}",
                      in_quotes(to_string(*other.pin)), text, in_quotes(variable.name)));
    }
    throw UsageError(fmt::format("pin {}: with the pins before it no scheme of the menu is left for {}", text,
                                 in_quotes(variable.name)));
  }
  return allowed;
}

/// As far as a name goes.
Matrix matrix_of(const ErrorRow& row) {
  Matrix matrix;
  matrix.name = row.name;
  matrix.block = row.layer;
  matrix.module = row.module;
  matrix.tied = row.tied;
  return matrix;
}

/// [variable]: the choices allowed by each constraint that matches one of its linears, in the constraints'
/// order.
std::vector<std::vector<Restriction>> restrictions_of(const ErrorTable& table, const SearchSpace& space,
                                                      const std::vector<std::size_t>& groups,
                                                      std::span<const Pin> pins) {
  std::vector<std::vector<Restriction>> restrictions(space.variables.size());
  for (const Pin& pin : pins) {
    bool matched = false;
    for (std::size_t i = 0; i < table.rows.size(); ++i) {
      const ErrorRow& row = table.rows[i];
      if (!is_named(matrix_of(row), pin.pattern)) continue;
      matched = true;
      std::vector<bool> allowed = allowed_choices(pin, space.menu, space.schemes[i]);
      std::vector<Restriction>& list = restrictions[groups[i]];
      if (!list.empty() && list.back().pin == &pin) {
        list.back().allowed = both(std::move(list.back().allowed), allowed);
      } else {
        list.push_back({&pin, std::move(allowed)});
      }
    }
    if (!matched) refuse_without_match(pin);
  }
  return restrictions;
}

std::vector<SpaceLevel> levels_of(const ErrorTable& table, const SearchSpace& space, const Variable& variable,
                                  const std::vector<bool>& allowed) {
  std::vector<SpaceLevel> levels;
  for (std::size_t c = 0; c < table.menu.size(); ++c) {
    if (!allowed[c]) continue;
    if (std::ranges::any_of(
            levels, [&](const SpaceLevel& other) { return same_schemes(space, variable, other.choice, c); }))
      continue;
    SpaceLevel& level = levels.emplace_back();
    level.choice = c;
    double weighted = 0;
    level.errors.fill(0);
    for (const std::size_t i : variable.linears) {
      const ErrorCell& cell = table.rows[i].cells[c];
      level.bytes += cell.bytes;
      for (std::size_t cost = 0; cost < kCosts; ++cost)
        level.errors[cost] += cost_of(cell, static_cast<Cost>(cost));
      weighted += cell.scheme.bits * static_cast<double>(table.rows[i].parameters);
    }
    level.error = level.error_by(space.cost);
    level.bits = weighted / static_cast<double>(variable.parameters);
  }
  // If errors are unknown, levels of equal size keep the menu's order.
  std::ranges::stable_sort(levels, [](const SpaceLevel& a, const SpaceLevel& b) {
    if (a.bytes != b.bytes) return a.bytes < b.bytes;
    if (std::isnan(a.error) || std::isnan(b.error)) return !std::isnan(a.error) && std::isnan(b.error);
    return a.error < b.error;
  });
  return levels;
}

}  // namespace

std::string to_string(const Budget& budget) {
  return fmt::format("{}={}", budget.of == Budget::Of::files ? "file-budget" : "budget", budget.bytes);
}

Budget bits_budget(double bits, std::int64_t parameters) {
  // A small excess, so that a budget of exactly a uniform size includes it in spite of rounding.
  constexpr double kRounding = 1e-6;
  const double bytes = bits * static_cast<double>(parameters) / 8;
  if (!(bytes < 0x1p62)) throw UsageError(fmt::format("{} bits per weight: no budget for this model", bits));
  return {static_cast<std::uint64_t>(std::floor(std::max(0.0, bytes) + kRounding)), Budget::Of::linears};
}

std::vector<std::size_t> SearchSpace::choices(const Point& point) const {
  check_size(*this, point);
  std::vector<std::size_t> choices(linears.size());
  for (std::size_t v = 0; v < variables.size(); ++v) {
    const std::size_t choice = level_of(*this, point, v).choice;
    for (const std::size_t linear : variables[v].linears) choices[linear] = choice;
  }
  return choices;
}

std::vector<Scheme> SearchSpace::allocation(const Point& point) const {
  const std::vector<std::size_t> chosen = choices(point);
  std::vector<Scheme> allocation;
  allocation.reserve(chosen.size());
  for (std::size_t i = 0; i < chosen.size(); ++i) allocation.push_back(schemes[i][chosen[i]]);
  return allocation;
}

std::uint64_t SearchSpace::linear_bytes(const Point& point) const {
  check_size(*this, point);
  std::uint64_t bytes = 0;
  for (std::size_t v = 0; v < variables.size(); ++v) bytes += level_of(*this, point, v).bytes;
  return bytes;
}

double SearchSpace::bits(const Point& point) const {
  return 8 * static_cast<double>(linear_bytes(point)) / static_cast<double>(parameters);
}

std::uint64_t SearchSpace::bytes(const Point& point) const {
  if (!files) throw std::logic_error("search space: made without the sizes of a model's files");
  return files->total(choices(point));
}

std::uint64_t SearchSpace::size(const Point& point, Budget::Of of) const {
  return of == Budget::Of::files ? bytes(point) : linear_bytes(point);
}

std::optional<std::size_t> SearchSpace::level_with(const Variable& variable, std::size_t choice) const {
  for (std::size_t level = 0; level < variable.levels.size(); ++level)
    if (same_schemes(*this, variable, variable.levels[level].choice, choice)) return level;
  return std::nullopt;
}

Point SearchSpace::smallest() const { return Point(variables.size(), 0); }

Point SearchSpace::largest() const {
  Point point;
  for (const Variable& variable : variables)
    point.push_back(static_cast<std::uint8_t>(variable.levels.size() - 1));
  return point;
}

std::string SearchSpace::identity() const {
  // Lengths first: no two lists of texts have the same form.
  Hasher hasher;
  const auto add = [&](std::string_view text) {
    hasher.update(fmt::format("{}:", text.size()));
    hasher.update(text);
  };
  add("knapsaq space 1");
  for (std::size_t i = 0; i < linears.size(); ++i) {
    add(linears[i]);
    for (const Scheme& scheme : schemes[i]) add(to_string(scheme));
  }
  add("menu");
  for (const Scheme& scheme : menu) add(to_string(scheme));
  add("variables");
  for (const Variable& variable : variables) {
    for (const std::size_t linear : variable.linears) add(fmt::format("{}", linear));
    for (const SpaceLevel& level : variable.levels) add(fmt::format("{}:{}", level.choice, level.bytes));
    add("");
  }
  return hasher.hex();
}

SearchSpace make_space(const ErrorTable& table, std::string_view ties, std::span<const Pin> pins, Cost cost,
                       std::shared_ptr<const FileSizes> files) {
  check(table);
  SearchSpace space;
  space.menu = table.menu;
  space.cost = cost;
  space.files = std::move(files);
  for (const ErrorRow& row : table.rows) {
    space.linears.push_back(row.name);
    space.parameters += row.parameters;
    std::vector<Scheme>& schemes = space.schemes.emplace_back();
    for (const ErrorCell& cell : row.cells) schemes.push_back(cell.scheme);
  }
  const std::vector<std::size_t> groups = tie_groups(space.linears, ties);
  space.variables = variables_of(table, groups);
  const std::vector<std::vector<Restriction>> restrictions = restrictions_of(table, space, groups, pins);
  for (std::size_t v = 0; v < space.variables.size(); ++v) {
    Variable& variable = space.variables[v];
    const std::vector<bool> allowed = allowed_by_all(variable, table.menu.size(), restrictions[v]);
    variable.levels = levels_of(table, space, variable, allowed);
  }
  return space;
}

}  // namespace knapsaq
