#pragma once

#include <cstdint>

#include "knapsaq/compute/ggml_matrix.h"

namespace knapsaq {

/// The points of a grid as pairs of halves, in the order of their first halves: a half has few values (81, or
/// 64), so that what each of them costs is computed once and a point costs one addition.
///
/// A half's number has a digit for each of its codes, the first one the highest: the rank of the code
/// (without its sign) among those that the grid has. Ranks and halves are what the kernels count with, so
/// that a table of sixteen floats for each half has the half's entries at 16 times its number.
struct GridHalves {
  static constexpr int kMostFirsts = 81;
  /// Runs of second halves are multiples of 4 long: the last one is repeated.
  static constexpr int kMostSeconds = 2048 + 3 * kMostFirsts;

  struct First {
    std::uint16_t half = 0;
    std::uint16_t begin = 0;  ///< its second halves within `second`
    std::uint16_t end = 0;
  };

  int firsts = 0;
  First first[kMostFirsts];            ///< the longest runs first, for the processor's guesses at their ends
  std::uint16_t second[kMostSeconds];  ///< 16 times the number of the half
};

/// Of a type that has a grid; made once.
const GridHalves& grid_halves(GgmlType type);

}  // namespace knapsaq
