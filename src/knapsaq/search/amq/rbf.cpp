#include "knapsaq/search/amq/rbf.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/quant/blas.h"

namespace knapsaq {
namespace {

// A pivot below this share of the largest one means that the centres lie in a plane. Coordinates are levels
// on a coarse grid within [0, 1], so a true pivot is never that small.
constexpr double kFlat = 1e-9;
// Tiles of the kernel: 64 x 512 doubles stay in the L2 cache between product, root and sum.
constexpr std::size_t kTileRows = 64;
constexpr std::size_t kTileCols = 512;

std::int64_t signed_size(std::size_t size) { return static_cast<std::int64_t>(size); }

/// In eight sums, which the processor can add in parallel.
double dot(const double* a, const double* b, std::size_t count) {
  constexpr std::size_t kSums = 8;
  std::array<double, kSums> sums{};
  std::size_t i = 0;
  for (; i + kSums <= count; i += kSums)
    for (std::size_t lane = 0; lane < kSums; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  double rest = 0;
  for (; i < count; ++i) rest += a[i] * b[i];
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7])) + rest;
}

/// out[i, j] = |a_i - b_j|^3 for points of this many variables. |a|^2 + |b|^2 - 2 ab is exact for levels that
/// are multiples of a power of two, and otherwise accurate to 1e-15.
void cube_distances(const double* a, std::size_t rows, const double* b, std::size_t cols,
                    std::size_t variables, double* out, std::size_t stride) {
  std::vector<double> doubled(rows * variables);
  for (std::size_t i = 0; i < doubled.size(); ++i) doubled[i] = 2 * a[i];
  std::vector<double> squares(cols);
  for (std::size_t j = 0; j < cols; ++j) squares[j] = dot(b + j * variables, b + j * variables, variables);
  for (std::size_t i = 0; i < rows; ++i) {
    const double square = dot(a + i * variables, a + i * variables, variables);
    for (std::size_t j = 0; j < cols; ++j) out[i * stride + j] = square + squares[j];
  }
  blas::subtract_product(signed_size(rows), signed_size(cols), signed_size(variables), doubled.data(),
                         signed_size(variables), b, signed_size(variables), out, signed_size(stride));
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < cols; ++j) {
      const double square = std::abs(out[i * stride + j]);  // rounding may have made it negative
      out[i * stride + j] = square * std::sqrt(square);
    }
}

/// Splits [0, rows) x [0, cols) into tiles and calls fn(first_row, rows, first_col, cols) on all threads.
template <class Function>
void for_tiles(std::size_t rows, std::size_t cols, Function&& fn) {
  const std::size_t across = (cols + kTileCols - 1) / kTileCols;
  const std::size_t down = (rows + kTileRows - 1) / kTileRows;
  parallel_for(across * down, [&](std::size_t tile) {
    const std::size_t row = tile / across * kTileRows;
    const std::size_t col = tile % across * kTileCols;
    fn(row, std::min(kTileRows, rows - row), col, std::min(kTileCols, cols - col));
  });
}

/// The inverse of a square matrix by Gauss and Jordan, with row pivots.
std::vector<double> inverse(std::vector<double> a, std::size_t n) {
  std::vector<double> result(n * n);
  for (std::size_t i = 0; i < n; ++i) result[i * n + i] = 1;
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t pivot = k;
    for (std::size_t i = k + 1; i < n; ++i)
      if (std::abs(a[i * n + k]) > std::abs(a[pivot * n + k])) pivot = i;
    for (std::size_t j = 0; j < n; ++j) {
      std::swap(a[k * n + j], a[pivot * n + j]);
      std::swap(result[k * n + j], result[pivot * n + j]);
    }
    const double scale = 1 / a[k * n + k];
    for (std::size_t j = 0; j < n; ++j) {
      a[k * n + j] *= scale;
      result[k * n + j] *= scale;
    }
    for (std::size_t i = 0; i < n; ++i) {
      const double factor = a[i * n + k];
      if (i == k || factor == 0) continue;
      for (std::size_t j = 0; j < n; ++j) {
        a[i * n + j] -= factor * a[k * n + j];
        result[i * n + j] -= factor * result[k * n + j];
      }
    }
  }
  return result;
}

}  // namespace

CubicRbf::CubicRbf(std::size_t variables, double damping) : variables_(variables), damping_(damping) {}

void CubicRbf::add(std::span<const double> points, std::span<const double> values) {
  if (values.empty()) return;
  const std::size_t before = size();
  centres_.insert(centres_.end(), points.begin(), points.end());
  values_.insert(values_.end(), values.begin(), values.end());
  if (tail_.size() == variables_ + 1) {
    extend(before);
  } else {
    choose_anchors();
    factor_ = {};
    lagrange_.clear();
    distance_.clear();
    rest_.clear();
    extend(tail_.size());
  }
  find_coefficients();
}

void CubicRbf::choose_anchors() {
  // Gauss with complete pivots on (1, x): the rows of the pivots are the anchors, their columns the tail. The
  // first pivot is the constant's.
  const std::size_t width = variables_ + 1;
  std::vector<double> a(size() * width);
  for (std::size_t i = 0; i < size(); ++i) {
    a[i * width] = 1;
    std::copy_n(centres_.begin() + signed_size(i * variables_), variables_,
                a.begin() + signed_size(i * width + 1));
  }
  std::vector<std::size_t> order(size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::vector<bool> used(width, false);
  tail_.clear();
  for (std::size_t k = 0; k < std::min(size(), width); ++k) {
    std::size_t row = k;
    std::size_t col = 0;
    double largest = k == 0 ? 1 : kFlat;
    for (std::size_t i = k; i < size() && k > 0; ++i)
      for (std::size_t j = 1; j < width; ++j)
        if (!used[j] && std::abs(a[order[i] * width + j]) > largest) {
          largest = std::abs(a[order[i] * width + j]);
          row = i;
          col = j;
        }
    if (k > 0 && col == 0) break;
    std::swap(order[k], order[row]);
    used[col] = true;
    tail_.push_back(col);
    const double* const pivot = &a[order[k] * width];
    for (std::size_t i = k + 1; i < size(); ++i) {
      double* const other = &a[order[i] * width];
      const double factor = other[col] / pivot[col];
      if (factor == 0) continue;
      for (std::size_t j = 0; j < width; ++j)
        if (!used[j]) other[j] -= factor * pivot[j];
    }
  }
  // The others keep their order.
  std::sort(order.begin() + signed_size(tail_.size()), order.end());
  std::vector<double> centres(centres_.size());
  std::vector<double> values(values_.size());
  for (std::size_t i = 0; i < size(); ++i) {
    std::copy_n(centres_.begin() + signed_size(order[i] * variables_), variables_,
                centres.begin() + signed_size(i * variables_));
    values[i] = values_[order[i]];
  }
  centres_ = std::move(centres);
  values_ = std::move(values);

  const std::size_t anchors = tail_.size();
  std::vector<double> at_anchors(anchors *
                                 anchors);  // [anchors, tail], so that the inverse is [tail, anchors]
  for (std::size_t i = 0; i < anchors; ++i)
    for (std::size_t t = 0; t < anchors; ++t)
      at_anchors[i * anchors + t] = tail_[t] == 0 ? 1 : centres_[i * variables_ + tail_[t] - 1];
  inverse_ = inverse(std::move(at_anchors), anchors);
  anchor_kernel_.assign(anchors * anchors, 0);
  cube_distances(centres_.data(), anchors, centres_.data(), anchors, variables_, anchor_kernel_.data(),
                 anchors);
  for (std::size_t i = 0; i < anchors; ++i) anchor_kernel_[i * anchors + i] += damping_;
}

void CubicRbf::lagrange(std::span<const double> point, std::span<double> result) const {
  const std::size_t anchors = tail_.size();
  std::fill(result.begin(), result.end(), 0.0);
  for (std::size_t t = 0; t < anchors; ++t) {
    const double value = tail_[t] == 0 ? 1 : point[tail_[t] - 1];
    if (value == 0) continue;
    for (std::size_t j = 0; j < anchors; ++j) result[j] += value * inverse_[t * anchors + j];
  }
}

void CubicRbf::extend(std::size_t first) {
  const std::size_t anchors = tail_.size();
  for (; first < size(); first += GrowingCholesky::kTile) {
    const std::size_t m = std::min(GrowingCholesky::kTile, size() - first);
    const std::size_t n = first - anchors;  // others that are in the factor
    const std::size_t width = n + m;
    lagrange_.resize(width * anchors);
    distance_.resize(width * anchors);
    rest_.resize(width * anchors);
    const double* const added = &centres_[first * variables_];
    cube_distances(added, m, centres_.data(), anchors, variables_, &distance_[n * anchors], anchors);
    std::vector<double> right_side(m);
    double largest = 0;  // sum of the magnitudes of all terms of a diagonal element
    for (std::size_t i = 0; i < m; ++i) {
      const std::span<double> l(&lagrange_[(n + i) * anchors], anchors);
      lagrange({added + i * variables_, variables_}, l);
      for (std::size_t j = 0; j < anchors; ++j)
        rest_[(n + i) * anchors + j] =
            distance_[(n + i) * anchors + j] - dot(&anchor_kernel_[j * anchors], l.data(), anchors);
      right_side[i] = values_[first + i] - dot(l.data(), values_.data(), anchors);
      double terms = 0;
      for (std::size_t j = 0; j < anchors; ++j)
        terms += std::abs(l[j]) *
                 (std::abs(rest_[(n + i) * anchors + j]) + 2 * std::abs(distance_[(n + i) * anchors + j]));
      largest = std::max(largest, terms);
    }

    // K(x, y) = |x - y|^3 + damping [x = y] - L(x) (g(y) - A L(y)) - g(x) L(y).
    std::vector<double> rows(m * width);
    const double* const others = &centres_[anchors * variables_];
    for_tiles(m, width, [&](std::size_t row, std::size_t height, std::size_t col, std::size_t across) {
      double* const tile = &rows[row * width + col];
      cube_distances(added + row * variables_, height, others + col * variables_, across, variables_, tile,
                     width);
      const auto subtract = [&](const std::vector<double>& left, const std::vector<double>& right) {
        blas::subtract_product(signed_size(height), signed_size(across), signed_size(anchors),
                               &left[(n + row) * anchors], signed_size(anchors), &right[col * anchors],
                               signed_size(anchors), tile, signed_size(width));
      };
      subtract(lagrange_, rest_);
      subtract(distance_, lagrange_);
    });
    for (std::size_t i = 0; i < m; ++i) rows[i * width + n + i] += damping_;
    // Rounding of the sums above, in double: of this many terms, as in blas::is_pivot().
    const double noise = 4 * std::sqrt(static_cast<double>(variables_ + 2 * anchors)) *
                         std::numeric_limits<double>::epsilon() / 2 * largest;
    if (!factor_.append(rows, right_side, noise))
      throw UsageError(fmt::format(
          "the radial basis functions of {} points have no interpolant: some are too close to each other; "
          "raise the damping above {}",
          size(), damping_));
  }
}

void CubicRbf::find_coefficients() {
  const std::size_t anchors = tail_.size();
  const std::vector<double> others = factor_.solve();
  coefficients_.assign(anchors, 0);
  std::vector<double> explained(anchors);  // by the basis functions, at the anchors
  for (std::size_t i = 0; i < others.size(); ++i)
    for (std::size_t j = 0; j < anchors; ++j) {
      coefficients_[j] -= others[i] * lagrange_[i * anchors + j];
      explained[j] += others[i] * distance_[i * anchors + j];
    }
  std::vector<double> left(anchors);
  for (std::size_t j = 0; j < anchors; ++j)
    left[j] = values_[j] - explained[j] - dot(&anchor_kernel_[j * anchors], coefficients_.data(), anchors);
  coefficients_.insert(coefficients_.end(), others.begin(), others.end());
  tail_coefficients_.resize(anchors);
  for (std::size_t t = 0; t < anchors; ++t)
    tail_coefficients_[t] = dot(&inverse_[t * anchors], left.data(), anchors);
}

std::vector<double> CubicRbf::predict(std::span<const double> points) const {
  const std::size_t count = variables_ == 0 ? 0 : points.size() / variables_;
  const std::size_t pieces = (size() + kTileCols - 1) / kTileCols;
  std::vector<double> sums(pieces * count);  // added in this order, whichever thread finishes first
  for_tiles(count, size(), [&](std::size_t row, std::size_t height, std::size_t col, std::size_t across) {
    std::vector<double> tile(height * across);
    cube_distances(&points[row * variables_], height, &centres_[col * variables_], across, variables_,
                   tile.data(), across);
    for (std::size_t i = 0; i < height; ++i)
      sums[col / kTileCols * count + row + i] = dot(&tile[i * across], &coefficients_[col], across);
  });
  std::vector<double> result(count);
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t t = 0; t < tail_.size(); ++t)
      result[i] += tail_coefficients_[t] * (tail_[t] == 0 ? 1 : points[i * variables_ + tail_[t] - 1]);
    for (std::size_t piece = 0; piece < pieces; ++piece) result[i] += sums[piece * count + i];
  }
  return result;
}

}  // namespace knapsaq
