#include "knapsaq/search/amq/growing_cholesky.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "knapsaq/base/threads.h"
#include "knapsaq/quant/blas.h"

namespace knapsaq {
namespace {

std::int64_t signed_size(std::size_t size) { return static_cast<std::int64_t>(size); }

}  // namespace

double* GrowingCholesky::row(std::size_t index) {
  return blocks_[index / kTile].get() + index % kTile * stride(index / kTile);
}
const double* GrowingCholesky::row(std::size_t index) const {
  return blocks_[index / kTile].get() + index % kTile * stride(index / kTile);
}

bool GrowingCholesky::append(std::span<double> rows, std::span<const double> right_side, double noise) {
  const std::size_t n = size();
  const std::size_t m = right_side.size();
  const std::size_t width = n + m;
  const std::size_t tiles = (n + kTile - 1) / kTile;
  const auto tile_size = [&](std::size_t tile) { return signed_size(std::min(kTile, n - tile * kTile)); };

  std::vector<double> diagonal(m);
  for (std::size_t i = 0; i < m; ++i) diagonal[i] = rows[i * width + n + i];

  // The rows' part left of the diagonal: B with B L^T = K, tile by tile; each is subtracted from those right
  // of it.
  for (std::size_t t = 0; t < tiles; ++t) {
    double* const solved = rows.data() + t * kTile;
    blas::solve_triangular(signed_size(m), tile_size(t), row(t * kTile) + t * kTile, signed_size(stride(t)),
                           solved, signed_size(width));
    parallel_for(tiles - t - 1, [&](std::size_t i) {
      const std::size_t u = t + 1 + i;
      blas::subtract_product(signed_size(m), tile_size(u), tile_size(t), solved, signed_size(width),
                             row(u * kTile) + t * kTile, signed_size(stride(u)), rows.data() + u * kTile,
                             signed_size(width));
    });
  }
  double* const corner = rows.data() + n;
  blas::subtract_square(signed_size(m), signed_size(n), rows.data(), signed_size(width), corner,
                        signed_size(width));
  if (!blas::cholesky(signed_size(m), corner, signed_size(width))) return false;
  for (std::size_t i = 0; i < m; ++i)
    if (!blas::is_pivot(corner[i * width + i], diagonal[i], signed_size(width), noise)) return false;

  right_side_.reserve(width);
  for (std::size_t i = 0; i < m; ++i) {
    const double* const from = rows.data() + i * width;
    if ((n + i) % kTile == 0)
      blocks_.push_back(std::make_unique_for_overwrite<double[]>(kTile * stride(blocks_.size())));
    std::copy(from, from + n + i + 1, row(n + i));
    double rest = right_side[i];
    for (std::size_t j = 0; j < n + i; ++j) rest -= from[j] * right_side_[j];
    right_side_.push_back(rest / from[n + i]);
  }
  return true;
}

std::vector<double> GrowingCholesky::solve() const {
  std::vector<double> x = right_side_;
  for (std::size_t block = blocks_.size(); block-- > 0;) {
    const std::size_t first = block * kTile;
    const std::size_t last = std::min(first + kTile, size());
    for (std::size_t i = last; i-- > first;) {
      const double* const l = row(i);
      x[i] /= l[i];
      for (std::size_t j = first; j < i; ++j) x[j] -= l[j] * x[i];
    }
    parallel_for(block, [&](std::size_t tile) {
      for (std::size_t i = first; i < last; ++i) {
        const double* const l = row(i);
        for (std::size_t j = tile * kTile; j < (tile + 1) * kTile; ++j) x[j] -= l[j] * x[i];
      }
    });
  }
  return x;
}

}  // namespace knapsaq
