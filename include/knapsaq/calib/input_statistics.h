#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/calib/output_statistics.h"

namespace knapsaq {

/// Statistics of the input x of one matrix (a row of `width` values per token) over the calibration tokens.
/// Matrices with the same input (q, k, v; gate, up) share one.
struct InputStatistics {
  std::string name;                ///< the first matrix, in the order of matrices(), with this input
  std::int64_t width = 0;          ///< the matrix's `in`
  std::uint64_t tokens = 0;        ///< number of tokens
  std::vector<float> mean_square;  ///< [width] mean of x_k^2: the diagonal of `second_moment`; always present
  std::vector<float> mean_abs;     ///< [width] mean of |x_k|; empty if only mean squares are known
  std::vector<float> max_abs;      ///< [width]; empty like mean_abs
  /// [width, width] H = X^T X / tokens, symmetric, both halves filled; empty if only mean squares are known.
  std::vector<float> second_moment;
};

/// Statistics of unknown inputs: mean squares of one, so that all columns have equal weight; with `moments`
/// also second moments, as if the columns were uncorrelated.
InputStatistics columns_alike(std::string_view name, std::int64_t width, bool moments = false);

/// How often each row of a matrix is looked up: [rows] shares of the tokens, which sum to 1. Empty if
/// unknown.
using RowShares = std::vector<float>;

/// The shares estimated from `counts` of tokens: (count + 1/2) / (all + rows/2), the estimator of Krichevsky
/// and Trofimov (1981), which gives every row some weight.
RowShares shares_of(std::span<const std::int64_t> counts);

/// The source of a matrix's statistics: Knapsaq's own calibration, or an imatrix file.
class InputSource {
 public:
  virtual ~InputSource() = default;
  /// Statistics of the input of `matrix` (a module path as in matrices()). Throws InputError for an unknown
  /// matrix or if its width is not `width`.
  virtual InputStatistics inputs(std::string_view matrix, std::int64_t width) const = 0;
  /// How often tokens look up each of the embedding's `rows`; empty: unknown. Throws InputError for another
  /// number of rows.
  virtual RowShares row_shares(std::int64_t /*rows*/) const { return {}; }
  /// Statistics of the gradient by the output of `matrix`; nothing: unknown. Throws InputError for an unknown
  /// matrix or if its output is not `width` wide. An embedding's name gives the gradient by what is looked
  /// up; the gradient by the logits goes by the name "lm_head", also where the embedding is the head.
  virtual std::optional<OutputStatistics> outputs(std::string_view /*matrix*/, std::int64_t /*width*/) const {
    return {};
  }
  /// Whether outputs() answers, for all matrices.
  virtual bool has_outputs() const { return false; }
  /// Whether inputs() fill mean_abs, max_abs and second_moment.
  virtual bool has_second_moments() const = 0;
  /// Notes for people about gaps in the source; empty if there are none.
  virtual std::vector<std::string> notes() const { return {}; }
  /// Identifies this source, as text for people and for comparison; a bank records it.
  virtual std::string identity() const = 0;
};

}  // namespace knapsaq
