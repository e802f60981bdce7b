#include "knapsaq/quant/moment_factor.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/quant/tiled_cholesky.h"

namespace knapsaq {

namespace {

// A matrix whose entries are no larger than the geometric mean of their diagonals is positive definite with
// `width` times its mean added. One that is not with a hundred times its mean was never a second moment.
constexpr double kLargestDamping = 100;

// Rows per piece for passes over the matrix that only move memory.
constexpr std::int64_t kPieceRows = 64;

template <class Function>
void for_row_pieces(std::int64_t rows, Function&& fn) {
  parallel_for(static_cast<std::size_t>((rows + kPieceRows - 1) / kPieceRows), [&](std::size_t piece) {
    const std::int64_t first = static_cast<std::int64_t>(piece) * kPieceRows;
    for (std::int64_t r = first; r < std::min(first + kPieceRows, rows); ++r) fn(r);
  });
}

/// MomentFactor::order
std::vector<std::int32_t> order_of(std::span<const float> moments, std::int64_t n, std::int64_t together) {
  std::vector<double> sums(static_cast<std::size_t>(n / together));
  for (std::int64_t run = 0; run < n / together; ++run)
    for (std::int64_t k = run * together; k < (run + 1) * together; ++k)
      sums[run] += static_cast<double>(moments[k * n + k]);
  std::vector<std::int64_t> runs(sums.size());
  std::iota(runs.begin(), runs.end(), 0);
  std::ranges::stable_sort(runs, std::greater{}, [&](std::int64_t run) { return sums[run]; });
  std::vector<std::int32_t> order;
  for (const std::int64_t run : runs)
    for (std::int64_t k = run * together; k < (run + 1) * together; ++k)
      order.push_back(static_cast<std::int32_t>(k));
  for (std::int64_t k = std::ssize(order); k < n; ++k) order.push_back(static_cast<std::int32_t>(k));
  return order;
}

/// A square matrix whose memory is first touched by the threads that use it.
template <class Real>
using Square = std::unique_ptr<Real[]>;

/// The lower half of the moments over `mean` and damped, with columns in reverse order, so that their usual
/// factor L, read backwards, is R. A dead column has only the damping on its diagonal.
template <class Real>
Square<Real> reversed(std::span<const float> moments, const std::vector<std::int32_t>& order, double mean,
                      double damping) {
  const auto n = std::ssize(order);
  const auto unit = static_cast<Real>(1 / mean);
  auto a = std::make_unique_for_overwrite<Real[]>(static_cast<std::size_t>(n * n));
  for_row_pieces(n, [&](std::int64_t i) {
    const float* row = moments.data() + order[n - 1 - i] * n;
    for (std::int64_t j = 0; j <= i; ++j) a[i * n + j] = static_cast<Real>(row[order[n - 1 - j]]) * unit;
    a[i * n + i] += static_cast<Real>(damping);
  });
  return a;
}

Square<float> in_single(Square<float> l, std::int64_t /*n*/) { return l; }
Square<float> in_single(Square<double> l, std::int64_t n) {
  auto single = std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(n * n));
  for_row_pieces(n, [&](std::int64_t i) {
    for (std::int64_t j = 0; j <= i; ++j) single[i * n + j] = static_cast<float>(l[i * n + j]);
  });
  return single;
}

/// Fills diagonal and feedback from L of the reversed moments: R[j, k] = L[n-1-j, n-1-k].
template <class Real>
void take(Square<Real> factored, MomentFactor& factor) {
  const auto n = std::ssize(factor.order);
  Square<float> l = in_single(std::move(factored), n);
  std::vector<float> inverses(static_cast<std::size_t>(n));
  factor.diagonal.resize(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    const float diagonal = l[i * n + i];
    factor.diagonal[n - 1 - i] = diagonal;
    inverses[n - 1 - i] = 1 / diagonal;
  }
  // In place: rows i and n-1-i are exchanged.
  const auto turn = [&](const float* row, std::int64_t j, float* out) {
    for (std::int64_t k = j + 1; k < n; ++k) out[k] = row[n - 1 - k] * inverses[k];
  };
  for_row_pieces((n + 1) / 2, [&](std::int64_t i) {
    const std::int64_t j = n - 1 - i;
    const std::vector<float> upper(l.get() + i * n, l.get() + i * n + i);
    turn(l.get() + j * n, i, l.get() + i * n);
    turn(upper.data(), j, l.get() + j * n);
  });
  factor.feedback = std::move(l);
}

}  // namespace

double mean_of_moments(std::span<const float> moments, std::int64_t n, std::string_view name,
                       std::string_view whose) {
  if (n < 1 || moments.size() != static_cast<std::uint64_t>(n * n)) {
    throw InputError(
        fmt::format("{}: {} second moments where {} {} have {}", name, moments.size(), n, whose, n * n));
  }
  std::vector<std::int64_t> bad(static_cast<std::size_t>(n), -1);
  for_row_pieces(n, [&](std::int64_t r) {
    // x - x is NaN for NaN and the infinities and 0 otherwise: a sum detects them without a branch per value.
    const std::span<const float> row = moments.subspan(r * n, n);
    float sum = 0;
    for (const float x : row) sum += x - x;
    if (sum == 0 && row[r] >= 0) return;
    const auto first = std::ranges::find_if_not(row, [](float x) { return std::isfinite(x); });
    bad[r] = first == row.end() ? r : first - row.begin();
  });
  double sum = 0;
  for (std::int64_t r = 0; r < n; ++r) {
    if (bad[r] >= 0) {
      throw InputError(fmt::format("{}: the second moment at [{}, {}] of its {} is {}; calibrate again", name,
                                   r, bad[r], whose, moments[r * n + bad[r]]));
    }
    sum += static_cast<double>(moments[r * n + r]);
  }
  // Values so small that the reciprocal of their mean overflows a float count as dead.
  constexpr double kDead = 1e-38;
  const double mean = sum / static_cast<double>(n);
  return mean > kDead ? mean : 1;
}

std::optional<MomentFactor> factor_moments(std::span<const float> moments, std::int64_t n, double mean,
                                           double damping, std::int64_t together) {
  MomentFactor factor;
  factor.order = order_of(moments, n, together);
  factor.damping = damping;
  if (Square<float> l = reversed<float>(moments, factor.order, mean, damping); tiled_cholesky(n, l.get())) {
    take(std::move(l), factor);
    return factor;
  }
  for (; damping <= kLargestDamping; damping *= 10) {
    factor.damping = damping;
    Square<double> l = reversed<double>(moments, factor.order, mean, damping);
    if (!tiled_cholesky(n, l.get())) continue;
    take(std::move(l), factor);
    return factor;
  }
  return std::nullopt;
}

}  // namespace knapsaq
