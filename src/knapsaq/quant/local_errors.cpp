#include "knapsaq/quant/local_errors.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/quant/blas.h"

namespace knapsaq {

namespace {

// Enough rows that a product reads each tile of H once for many of them, few enough that a panel of a wide
// matrix (256 x 11008 floats: 11 MiB) stays in the L3 cache and small matrices occupy all threads.
constexpr std::int64_t kPanelRows = 256;
// Columns of H per product. The unneeded half of a diagonal tile costs 256 / (2 cols).
constexpr std::int64_t kTile = 256;

struct Sums {
  double error = 0;   ///< sum of dW^2
  double weight = 0;  ///< sum of W^2
  double hessian = 0;
  double lookup = 0;
  double fisher = 0;
};

double dot(const float* a, const float* b, std::int64_t n) {
  // Eight sums: a single one would wait for the latency of every addition.
  double sums[8] = {};
  std::int64_t k = 0;
  for (; k + 8 <= n; k += 8) {
    for (int lane = 0; lane < 8; ++lane)
      sums[lane] += static_cast<double>(a[k + lane]) * static_cast<double>(b[k + lane]);
  }
  for (; k < n; ++k) sums[0] += static_cast<double>(a[k]) * static_cast<double>(b[k]);
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

/// tr(D H D^T) of `rows` rows of D, and with the rows weighted; without weights, that is 0. H is symmetric,
/// so each tile column counts the part above its diagonal tile twice.
struct Trace {
  double plain = 0;
  double weighted = 0;
};
Trace trace(const std::vector<float>& errors, std::int64_t rows, std::int64_t cols,
            const std::vector<float>& moment, std::span<const float> weights) {
  std::vector<float> product(static_cast<std::size_t>(rows * kTile));
  Trace total;
  for (std::int64_t first = 0; first < cols; first += kTile) {
    const std::int64_t width = std::min(kTile, cols - first);
    const auto add_tile = [&](std::int64_t from, std::int64_t count, double times) {
      std::ranges::fill(product, 0.0f);
      blas::add_product(rows, width, count, 1.0f, errors.data() + from, cols,
                        moment.data() + from * cols + first, cols, product.data(), kTile);
      Trace sum;
      for (std::int64_t r = 0; r < rows; ++r) {
        const double of_row = dot(product.data() + r * kTile, errors.data() + r * cols + first, width);
        sum.plain += of_row;
        if (!weights.empty())
          sum.weighted += of_row * static_cast<double>(weights[static_cast<std::size_t>(r)]);
      }
      total.plain += times * sum.plain;
      total.weighted += times * sum.weighted;
    };
    if (first > 0) add_tile(0, first, 2);
    add_tile(first, width, 1);
  }
  return total;
}

}  // namespace

LocalErrors local_errors(const MatrixView& weights, const StoredMatrix& stored, const InputStatistics* inputs,
                         std::span<const float> output_scales, std::span<const float> row_shares,
                         const GradientSquares& gradients) {
  if (inputs != nullptr && inputs->width != weights.cols) {
    throw InputError(fmt::format("{}: statistics of {} inputs for a linear with {}", inputs->name,
                                 inputs->width, weights.cols));
  }
  if (!row_shares.empty() && std::ssize(row_shares) != weights.rows)
    throw InputError(fmt::format("shares of {} rows for a matrix with {}", row_shares.size(), weights.rows));
  const auto fits = [](std::span<const float> squares, std::int64_t width) {
    return squares.empty() || std::ssize(squares) == width;
  };
  if (!fits(gradients.product, weights.rows) || !fits(gradients.lookup, weights.cols))
    throw InputError(fmt::format("statistics of {} and {} gradients for a matrix of {} by {}",
                                 gradients.product.size(), gradients.lookup.size(), weights.rows,
                                 weights.cols));
  const std::int64_t cols = weights.cols;
  const auto panels = static_cast<std::size_t>((weights.rows + kPanelRows - 1) / kPanelRows);
  std::vector<Sums> sums(panels);
  parallel_for(panels, [&](std::size_t panel) {
    const std::int64_t first = static_cast<std::int64_t>(panel) * kPanelRows;
    const std::int64_t rows = std::min(kPanelRows, weights.rows - first);
    std::vector<float> errors(static_cast<std::size_t>(rows * cols));
    Sums& sum = sums[panel];
    std::vector<float> weighted(static_cast<std::size_t>(cols));
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::span<float> row = std::span(errors).subspan(r * cols, cols);
      const std::span<const float> wanted = weights.row(first + r);
      dequantize_row(stored, first + r, row);
      for (std::int64_t k = 0; k < cols; ++k) row[k] = wanted[k] - row[k];
      const double squares = dot(row.data(), row.data(), cols);
      sum.error += squares;
      if (!row_shares.empty())
        sum.lookup += squares * static_cast<double>(row_shares[static_cast<std::size_t>(first + r)]);
      if (!row_shares.empty() && !gradients.lookup.empty()) {
        for (std::int64_t k = 0; k < cols; ++k) weighted[k] = row[k] * gradients.lookup[k];
        sum.fisher += dot(row.data(), weighted.data(), cols) *
                      static_cast<double>(row_shares[static_cast<std::size_t>(first + r)]);
      }
      sum.weight += dot(wanted.data(), wanted.data(), cols);
      if (!output_scales.empty())
        for (float& error : row) error *= output_scales[static_cast<std::size_t>(first + r)];
      if (inputs == nullptr || !inputs->second_moment.empty()) continue;
      for (std::int64_t k = 0; k < cols; ++k) weighted[k] = row[k] * inputs->mean_square[k];
      const double hessian = dot(row.data(), weighted.data(), cols);
      sum.hessian += hessian;
      if (!gradients.product.empty())
        sum.fisher += hessian * static_cast<double>(gradients.product[static_cast<std::size_t>(first + r)]);
    }
    if (inputs != nullptr && !inputs->second_moment.empty()) {
      const Trace traced = trace(
          errors, rows, cols, inputs->second_moment,
          gradients.product.empty()
              ? std::span<const float>()
              : gradients.product.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows)));
      sum.hessian = traced.plain;
      sum.fisher += traced.weighted;
    }
  });
  Sums total;
  for (const Sums& sum : sums) {
    total.error += sum.error;
    total.weight += sum.weight;
    total.hessian += sum.hessian;
    total.lookup += sum.lookup;
    total.fisher += sum.fisher;
  }
  LocalErrors result;
  result.fnorm = std::sqrt(total.error);
  result.relative = total.weight > 0 ? std::sqrt(total.error / total.weight) : 0;
  result.hessian = std::max(total.hessian, 0.0);  // rounding of a sum whose terms cancel
  result.lookup = total.lookup;
  if (!gradients.product.empty() || !gradients.lookup.empty())
    result.fisher = std::max(total.fisher, 0.0) / 2;
  return result;
}

}  // namespace knapsaq
