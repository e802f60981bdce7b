#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/bank/cost.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

class FileSizes;

/// An allocation as searches see it: the index of a level for every variable of a SearchSpace.
using Point = std::vector<std::uint8_t>;

/// One way to store the linears of a variable.
struct SpaceLevel {
  std::size_t choice = 0;   ///< index into SearchSpace::menu
  std::uint64_t bytes = 0;  ///< of the tensors of all the variable's linears
  double bits = 0;   ///< b1 of the scheme, without metadata, which the metaheuristics sum up; if tied linears
                     ///< are stored differently, the mean over their weights
  double error = 0;  ///< sum of the linears' local errors (SearchSpace::cost); NaN if unknown
  /// The same by every Cost; NaN if unknown.
  std::array<double, kCosts> errors = [] {
    std::array<double, kCosts> unknown{};
    unknown.fill(std::numeric_limits<double>::quiet_NaN());
    return unknown;
  }();

  double error_by(Cost which) const { return errors[static_cast<std::size_t>(which)]; }
};

/// A decision of a search: a linear, or linears that must share a scheme.
struct Variable {
  std::string name;                  ///< of its first linear; with " +3" behind it if there are three more
  std::int64_t block = 0;            ///< of its first linear
  std::vector<std::size_t> linears;  ///< ascending indices into SearchSpace::linears
  std::int64_t parameters = 0;       ///< weights of all its linears
  std::vector<SpaceLevel>
      levels;  ///< ascending by bytes, equal ones by error; 1 to 256; constraints have been applied
};

/// A hard limit on the size of an allocation.
struct Budget {
  enum class Of : std::uint8_t {
    files,   ///< everything that is written, headers included
    linears  ///< the linears' tensors alone: average bits per weight limit these
  };
  std::uint64_t bytes = 0;
  Of of = Of::files;
  friend bool operator==(const Budget&, const Budget&) = default;
};

/// The form that identifies a search: "budget=114" for linears, "file-budget=2000" for files.
std::string to_string(const Budget& budget);

/// The budget in bytes for average bits per quantized weight, metadata included, of linears with this many
/// weights. Throws UsageError if it exceeds 2^62 bytes.
Budget bits_budget(double bits, std::int64_t parameters);

/// The search space: variables with their levels, and the exact size of the files that would be written.
struct SearchSpace {
  std::vector<std::string> linears;  ///< the variable matrices of the model, in their order
  std::vector<Scheme> menu;
  std::vector<std::vector<Scheme>> schemes;  ///< [linear][choice]: as the bank stores it (fitting())
  std::vector<Variable> variables;           ///< in the order of their first linears
  Cost cost = Cost::fnorm;                   ///< the kind of SpaceLevel::error
  std::int64_t parameters = 0;               ///< weights of all linears
  /// The sizes of the files that would be written; modules are the linears and forms the menu's choices.
  std::shared_ptr<const FileSizes> files;

  // Points with another number of variables, or with levels that do not exist, are std::invalid_argument.

  /// Index into `menu` for every linear.
  std::vector<std::size_t> choices(const Point& point) const;
  /// Scheme for every linear.
  std::vector<Scheme> allocation(const Point& point) const;
  /// Bytes of the linears' tensors: a sum over the variables.
  std::uint64_t linear_bytes(const Point& point) const;
  /// Average bits per quantized weight, metadata included: 8 linear_bytes / parameters.
  double bits(const Point& point) const;
  /// Bytes of the files that would be written, headers included.
  std::uint64_t bytes(const Point& point) const;
  /// bytes() or linear_bytes().
  std::uint64_t size(const Point& point, Budget::Of of) const;
  bool fits(const Point& point, const Budget& budget) const { return size(point, budget.of) <= budget.bytes; }
  /// The level that stores all linears of the variable like this choice of the menu, possibly under another
  /// choice; nullopt if constraints or its width exclude it.
  std::optional<std::size_t> level_with(const Variable& variable, std::size_t choice) const;
  /// First and last level of every variable.
  Point smallest() const;
  Point largest() const;
  /// Identifies this space, in 32 hexadecimal digits: linears, schemes and variables.
  std::string identity() const;
};

}  // namespace knapsaq
