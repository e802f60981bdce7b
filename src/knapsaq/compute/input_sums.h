#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace knapsaq {

/// Sums over the rows x of what matrix products multiply; Backend::sum_inputs() adds to them.
struct InputSums {
  explicit InputSums(std::int64_t cols = 0)
      : width(cols),
        products(static_cast<std::size_t>(cols * (cols + 1) / 2)),
        abs(static_cast<std::size_t>(cols)),
        max_abs(static_cast<std::size_t>(cols)) {}

  /// Adds sums over other rows, of the same width.
  void add(const InputSums& others) {
    rows += others.rows;
    for (std::size_t i = 0; i < products.size(); ++i) products[i] += others.products[i];
    for (std::size_t i = 0; i < abs.size(); ++i) {
      abs[i] += others.abs[i];
      max_abs[i] = max_abs[i] < others.max_abs[i] ? others.max_abs[i] : max_abs[i];
    }
  }

  std::int64_t width;
  std::uint64_t rows = 0;
  /// Lower triangle of the sum of x^T x, row by row: entry (i, j), j <= i, at i (i + 1) / 2 + j.
  std::vector<double> products;
  std::vector<double> abs;     ///< [width] sums of |x_k|
  std::vector<float> max_abs;  ///< [width]
};

}  // namespace knapsaq
