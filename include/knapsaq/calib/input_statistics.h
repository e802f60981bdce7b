#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace knapsaq {

/// What the input x of one matrix (a row of `width` values per token) looked like over the calibration
/// tokens. Matrices that multiply the same input (q, k, v; gate, up) share one.
struct InputStatistics {
  std::string name;                ///< of the first matrix, in the order of matrices(), that multiplies it
  std::int64_t width = 0;          ///< the matrix's `in`
  std::uint64_t tokens = 0;        ///< that were looked at
  std::vector<float> mean_square;  ///< [width] mean of x_k^2: the diagonal of `second_moment`; always there
  std::vector<float> mean_abs;     ///< [width] mean of |x_k|; empty where only mean squares are known
  std::vector<float> max_abs;      ///< [width]; empty as mean_abs
  /// [width, width] H = X^T X / tokens, symmetric, both halves filled; empty where only mean squares are
  /// known.
  std::vector<float> second_moment;
};

/// Statistics of inputs of which nothing is known: mean squares of one, so that all columns count alike; with
/// `moments` also second moments, as if the columns were uncorrelated.
InputStatistics columns_alike(std::string_view name, std::int64_t width, bool moments = false);

/// How often each row of a matrix is looked up: [rows] shares of the tokens, which sum up to 1. Empty where
/// that is not known.
using RowShares = std::vector<float>;

/// The shares that `counts` of tokens speak for: (count + 1/2) / (all + rows/2), the estimator of Krichevsky
/// and Trofimov (1981), which leaves no row without weight.
RowShares shares_of(std::span<const std::int64_t> counts);

/// Where the statistics of a matrix come from: a calibration of our own, or an imatrix file.
class InputSource {
 public:
  virtual ~InputSource() = default;
  /// Statistics of the input that `matrix` (a module path as matrices() names it) multiplies. Throws
  /// InputError if the source does not know it or its width is not `width`.
  virtual InputStatistics inputs(std::string_view matrix, std::int64_t width) const = 0;
  /// How often tokens look up each of the embedding's `rows`; empty: not known. Throws InputError for another
  /// number of rows.
  virtual RowShares row_shares(std::int64_t /*rows*/) const { return {}; }
  /// Whether inputs() fill mean_abs, max_abs and second_moment.
  virtual bool has_second_moments() const = 0;
  /// Lines for people about what the source does not know; empty if it knows all.
  virtual std::vector<std::string> notes() const { return {}; }
  /// Tells this source from any other, as text for people and for comparing: what a bank was built with.
  virtual std::string identity() const = 0;
};

}  // namespace knapsaq
