#include "knapsaq/search/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

void check(std::span<const double> values) {
  if (values.empty()) throw UsageError("statistics of a sample without values");
  for (const double value : values) {
    if (!std::isfinite(value)) throw UsageError("statistics of a sample with a value that is not finite");
  }
}

/// Of a sorted sample: the value at fraction `share` of the way from the first to the last, linearly
/// interpolated.
double quantile(std::span<const double> sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

/// Ranks of both samples together; equal values share the mean of their ranks.
struct Ranking {
  double sum_a = 0;  ///< of the ranks of `a`
  double ties = 0;   ///< sum of t^3 - t over groups of t equal values
};

Ranking rank(std::span<const double> a, std::span<const double> b) {
  check(a);
  check(b);
  std::vector<std::pair<double, bool>> all;
  all.reserve(a.size() + b.size());
  for (const double value : a) all.emplace_back(value, true);
  for (const double value : b) all.emplace_back(value, false);
  std::sort(all.begin(), all.end());
  Ranking ranking;
  for (std::size_t first = 0; first < all.size();) {
    std::size_t last = first;
    std::size_t of_a = 0;
    while (last < all.size() && all[last].first == all[first].first) of_a += all[last++].second ? 1U : 0U;
    const auto count = static_cast<double>(last - first);
    // Ranks first + 1 .. last.
    ranking.sum_a += static_cast<double>(of_a) * (static_cast<double>(first) + (count + 1) / 2);
    ranking.ties += count * (count * count - 1);
    first = last;
  }
  return ranking;
}

/// Both tails of the standard normal distribution beyond |z|.
double two_sided(double z) { return std::erfc(std::abs(z) / std::sqrt(2.0)); }

/// P(U >= u) for samples of n and m values without ties, all orders equally likely, by Mann and Whitney's
/// recurrence (1947), in probabilities: the largest of i + j values is one of the i with probability
/// i / (i + j); then it is above all j, and the others are samples of i - 1 and j.
double exact_tail(std::size_t n, std::size_t m, double u) {
  const std::size_t most = n * m;
  // row[j][k] = P(U = k) for i and j values.
  std::vector<std::vector<double>> row(m + 1, std::vector<double>(most + 1, 0.0));
  for (std::size_t j = 0; j <= m; ++j) row[j][0] = 1;  // i = 0: U is 0
  for (std::size_t i = 1; i <= n; ++i) {
    std::fill(row[0].begin() + 1, row[0].end(), 0.0);
    row[0][0] = 1;
    for (std::size_t j = 1; j <= m; ++j) {
      const double first = static_cast<double>(i) / static_cast<double>(i + j);
      std::vector<double>& now = row[j];  // still of i - 1
      for (std::size_t k = i * j + 1; k-- > 0;) {
        const double from_a = k >= j ? now[k - j] : 0;
        now[k] = first * from_a + (1 - first) * row[j - 1][k];
      }
    }
  }
  double tail = 0;
  for (std::size_t k = most + 1; k-- > static_cast<std::size_t>(std::ceil(u));) tail += row[m][k];
  return tail;
}

}  // namespace

Spread spread(std::span<const double> values) {
  check(values);
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  Spread result;
  result.count = sorted.size();
  const auto count = static_cast<double>(sorted.size());
  result.mean = std::accumulate(sorted.begin(), sorted.end(), 0.0) / count;
  double squares = 0;
  for (const double value : sorted) squares += (value - result.mean) * (value - result.mean);
  result.deviation = sorted.size() > 1 ? std::sqrt(squares / (count - 1)) : 0;
  result.minimum = sorted.front();
  result.lower = quantile(sorted, 0.25);
  result.median = quantile(sorted, 0.5);
  result.upper = quantile(sorted, 0.75);
  result.maximum = sorted.back();
  return result;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*std::max_element(values.begin(), middle) + *middle) / 2;
}

RankSum rank_sum(std::span<const double> a, std::span<const double> b) {
  const Ranking ranking = rank(a, b);
  const auto n = static_cast<double>(a.size());
  const auto m = static_cast<double>(b.size());
  RankSum result;
  result.z = (ranking.sum_a - n * (n + m + 1) / 2) / std::sqrt(n * m * (n + m + 1) / 12);
  result.p = two_sided(result.z);
  return result;
}

MannWhitney mann_whitney(std::span<const double> a, std::span<const double> b, PValue method) {
  const Ranking ranking = rank(a, b);
  const auto n = static_cast<double>(a.size());
  const auto m = static_cast<double>(b.size());
  MannWhitney result;
  result.u = ranking.sum_a - n * (n + 1) / 2;
  // Above 20 values the approximation is accurate to a few parts in a thousand, and the exact value needs n
  // m^2 n steps.
  constexpr std::size_t kExactSize = 20;
  result.exact = method == PValue::exact || (method == PValue::automatic && ranking.ties == 0 &&
                                             a.size() <= kExactSize && b.size() <= kExactSize);
  const double larger = std::max(result.u, n * m - result.u);
  if (result.exact) {
    result.p = std::min(1.0, 2 * exact_tail(a.size(), b.size(), larger));
    return result;
  }
  const double all = n + m;
  const double variance = n * m / 12 * (all + 1 - ranking.ties / (all * (all - 1)));
  // Half a unit towards the middle, because U changes in steps of one.
  const double distance = larger - n * m / 2 - 0.5;
  result.p = variance > 0 ? std::min(1.0, std::erfc(distance / std::sqrt(2 * variance))) : 1;
  return result;
}

double vargha_delaney(std::span<const double> a, std::span<const double> b) {
  const Ranking ranking = rank(a, b);
  const auto n = static_cast<double>(a.size());
  const auto m = static_cast<double>(b.size());
  return (ranking.sum_a - n * (n + 1) / 2) / (n * m);
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.size());
  double largest = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    largest = std::max(largest, std::min(1.0, static_cast<double>(p.size() - i) * p[order[i]]));
    adjusted[order[i]] = largest;
  }
  return adjusted;
}

}  // namespace knapsaq
