#include "knapsaq/quant/tiled_cholesky.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/quant/blas.h"

namespace knapsaq {
namespace {

// Large enough for products near the peak (k = 256), small enough that a matrix of 4096 occupies a dozen
// threads and the serial part, the diagonal tiles, is (tile / width)^2 of the work.
constexpr std::int64_t kTile = 256;

/// Right-looking by tiles, those of a step in parallel.
template <class Real>
bool factor(std::int64_t n, Real* a) {
  const auto at = [&](std::int64_t row, std::int64_t col) { return a + row * n + col; };
  std::vector<Real> diagonal(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) diagonal[static_cast<std::size_t>(i)] = *at(i, i);
  for (std::int64_t k = 0; k < n; k += kTile) {
    check_cancelled();
    const std::int64_t width = std::min(kTile, n - k);
    if (!blas::cholesky(width, at(k, k), n)) return false;
    for (std::int64_t i = k; i < k + width; ++i)
      if (!blas::is_pivot(*at(i, i), diagonal[static_cast<std::size_t>(i)], i + 1)) return false;
    const std::int64_t next = k + width;
    const std::int64_t tiles = (n - next + kTile - 1) / kTile;
    const auto height = [&](std::int64_t row) { return std::min(kTile, n - row); };
    parallel_for(static_cast<std::size_t>(tiles), [&](std::size_t tile) {
      const std::int64_t row = next + static_cast<std::int64_t>(tile) * kTile;
      blas::solve_triangular(height(row), width, at(k, k), n, at(row, k), n);
    });
    parallel_for(static_cast<std::size_t>(tiles * (tiles + 1) / 2), [&](std::size_t pair) {
      // Pair i (i + 1) / 2 + j stands for tile [i, j] of the lower half.
      auto i = static_cast<std::int64_t>((std::sqrt(8.0 * static_cast<double>(pair) + 1) - 1) / 2);
      while (i * (i + 1) / 2 > static_cast<std::int64_t>(pair)) --i;
      while ((i + 1) * (i + 2) / 2 <= static_cast<std::int64_t>(pair)) ++i;
      const std::int64_t j = static_cast<std::int64_t>(pair) - i * (i + 1) / 2;
      const std::int64_t row = next + i * kTile;
      const std::int64_t col = next + j * kTile;
      if (i == j) return blas::subtract_square(height(row), width, at(row, k), n, at(row, row), n);
      blas::subtract_product(height(row), height(col), width, at(row, k), n, at(col, k), n, at(row, col), n);
    });
  }
  return true;
}

}  // namespace

bool tiled_cholesky(std::int64_t n, float* a) { return factor(n, a); }
bool tiled_cholesky(std::int64_t n, double* a) { return factor(n, a); }

}  // namespace knapsaq
