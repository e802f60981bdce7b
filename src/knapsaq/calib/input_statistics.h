#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace knapsaq {

/// What one linear's input x (a row of `width` values per token) looked like over the calibration tokens.
/// Linears that see the same input (q, k, v; gate, up) share one.
struct InputStatistics {
  std::string name;                ///< of the first linear, in the order of linears(), that sees this input
  std::int64_t width = 0;          ///< the linear's `in`
  std::uint64_t tokens = 0;        ///< that were looked at
  std::vector<float> mean_square;  ///< [width] mean of x_k^2: the diagonal of `second_moment`; always there
  std::vector<float> mean_abs;     ///< [width] mean of |x_k|; empty where only mean squares are known
  std::vector<float> max_abs;      ///< [width]; empty as mean_abs
  /// [width, width] H = X^T X / tokens, symmetric, both halves filled; empty where only mean squares are
  /// known.
  std::vector<float> second_moment;
};

/// Where a linear's statistics come from: a calibration of our own, or an imatrix file.
class InputSource {
 public:
  virtual ~InputSource() = default;
  /// Statistics of the input of `linear` (a module path as linears() names it). Throws InputError if the
  /// source does not know it or its width is not `width`.
  virtual InputStatistics inputs(std::string_view linear, std::int64_t width) const = 0;
  /// Whether inputs() fill mean_abs, max_abs and second_moment.
  virtual bool has_second_moments() const = 0;
  /// Lines for people about what the source does not know; empty if it knows all.
  virtual std::vector<std::string> notes() const { return {}; }
  /// Tells this source from any other, as text for people and for comparing: what a bank was built with.
  virtual std::string identity() const = 0;
};

}  // namespace knapsaq
