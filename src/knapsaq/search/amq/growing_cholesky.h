#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

namespace knapsaq {

/// K = L L^T of a symmetric positive definite matrix that grows by rows, together with z = L^-1 y of a right
/// side that grows with it: adding m rows to n costs O(m n^2) instead of O(n^3). Memory: the lower half, 4
/// n^2 bytes (420 MB for n = 10,250).
class GrowingCholesky {
 public:
  /// Most rows of one append().
  static constexpr std::size_t kTile = 256;

  std::size_t size() const { return right_side_.size(); }

  /// Adds right_side.size() rows, at most kTile. `rows` [m, size() + m] contains those of K (of the last m
  /// columns, the lower half is enough) and is overwritten; `noise` is the absolute error of its numbers.
  /// False, with nothing added, if K is not positive definite to the precision of doubles, that is, if a
  /// pivot may be rounding error alone (blas::is_pivot()), whatever its sign.
  bool append(std::span<double> rows, std::span<const double> right_side, double noise = 0);

  /// K^-1 y.
  std::vector<double> solve() const;

 private:
  /// L[kTile * block + row][..] up to the end of the diagonal tile, which is `stride(block)` long.
  double* row(std::size_t index);
  const double* row(std::size_t index) const;
  static std::size_t stride(std::size_t block) { return (block + 1) * kTile; }

  std::vector<std::unique_ptr<double[]>> blocks_;  ///< kTile rows each
  std::vector<double> right_side_;                 ///< z
};

}  // namespace knapsaq
