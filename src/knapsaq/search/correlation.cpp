#include "knapsaq/search/correlation.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

namespace knapsaq {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Ranks from 1; equal values get the mean of theirs.
std::vector<double> ranks(std::span<const double> values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> result(values.size());
  for (std::size_t first = 0; first < order.size();) {
    std::size_t last = first;
    while (last < order.size() && values[order[last]] == values[order[first]]) ++last;
    const double rank = 0.5 * static_cast<double>(first + 1 + last);
    for (std::size_t i = first; i < last; ++i) result[order[i]] = rank;
    first = last;
  }
  return result;
}

/// Pairs within runs of equal neighbours.
template <class Equal>
std::int64_t tied_pairs(std::size_t count, const Equal& equal) {
  std::int64_t pairs = 0;
  std::int64_t run = 0;  // of equal neighbours before this one
  for (std::size_t i = 1; i < count; ++i) {
    run = equal(i - 1, i) ? run + 1 : 0;
    pairs += run;
  }
  return pairs;
}

/// Sorts by merging and counts the exchanges of neighbours that a bubble sort would make.
std::int64_t sort_counting(std::span<double> values, std::span<double> scratch) {
  if (values.size() < 2) return 0;
  const std::size_t half = values.size() / 2;
  std::int64_t exchanges = sort_counting(values.first(half), scratch.first(half)) +
                           sort_counting(values.subspan(half), scratch.subspan(half));
  std::size_t left = 0;
  std::size_t right = half;
  for (double& next : scratch) {
    if (left < half && (right == values.size() || values[left] <= values[right])) {
      next = values[left++];
    } else {
      exchanges += static_cast<std::int64_t>(half - left);
      next = values[right++];
    }
  }
  std::copy(scratch.begin(), scratch.end(), values.begin());
  return exchanges;
}

}  // namespace

double rmse(std::span<const double> predicted, std::span<const double> measured) {
  double sum = 0;
  for (std::size_t i = 0; i < predicted.size(); ++i) {
    const double error = predicted[i] - measured[i];
    sum += error * error;
  }
  return predicted.empty() ? 0 : std::sqrt(sum / static_cast<double>(predicted.size()));
}

double spearman(std::span<const double> a, std::span<const double> b) {
  if (a.size() < 2) return kNaN;
  const std::vector<double> rank_a = ranks(a);
  const std::vector<double> rank_b = ranks(b);
  const double mean = 0.5 * static_cast<double>(a.size() + 1);
  double both = 0;
  double square_a = 0;
  double square_b = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    both += (rank_a[i] - mean) * (rank_b[i] - mean);
    square_a += (rank_a[i] - mean) * (rank_a[i] - mean);
    square_b += (rank_b[i] - mean) * (rank_b[i] - mean);
  }
  return square_a > 0 && square_b > 0 ? both / std::sqrt(square_a * square_b) : kNaN;
}

double kendall(std::span<const double> a, std::span<const double> b) {
  if (a.size() < 2) return kNaN;
  std::vector<std::size_t> order(a.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t i, std::size_t j) { return a[i] != a[j] ? a[i] < a[j] : b[i] < b[j]; });
  const std::int64_t tied_a =
      tied_pairs(a.size(), [&](std::size_t i, std::size_t j) { return a[order[i]] == a[order[j]]; });
  const std::int64_t tied_both = tied_pairs(a.size(), [&](std::size_t i, std::size_t j) {
    return a[order[i]] == a[order[j]] && b[order[i]] == b[order[j]];
  });
  std::vector<double> values(a.size());
  for (std::size_t i = 0; i < order.size(); ++i) values[i] = b[order[i]];
  std::vector<double> scratch(values.size());
  const std::int64_t discordant = sort_counting(values, scratch);
  const std::int64_t tied_b =
      tied_pairs(values.size(), [&](std::size_t i, std::size_t j) { return values[i] == values[j]; });

  const auto count = static_cast<std::int64_t>(a.size());
  const std::int64_t pairs = count * (count - 1) / 2;
  if (tied_a == pairs || tied_b == pairs) return kNaN;
  const auto concordance = static_cast<double>(pairs - tied_a - tied_b + tied_both - 2 * discordant);
  return concordance / std::sqrt(static_cast<double>(pairs - tied_a)) /
         std::sqrt(static_cast<double>(pairs - tied_b));
}

}  // namespace knapsaq
