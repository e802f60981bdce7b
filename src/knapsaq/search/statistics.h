#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace knapsaq {

/// The distribution of a sample's values.
struct Spread {
  std::size_t count = 0;
  double mean = 0;
  double deviation = 0;  ///< standard deviation of the sample (n - 1); 0 for a single value
  double minimum = 0;
  double lower = 0;  ///< first quartile; quartiles interpolate linearly between values, as in NumPy
  double median = 0;
  double upper = 0;  ///< third quartile
  double maximum = 0;
};
/// Throws UsageError for an empty sample and for values that are not finite, as do all functions below except
/// median().
Spread spread(std::span<const double> values);

/// The middle one, or the mean of the middle two; 0 of nothing. Infinite values count by their order.
double median(std::vector<double> values);

/// Wilcoxon's rank-sum test by the normal approximation, without corrections for ties or continuity: the z
/// and two-sided p of scipy.stats.ranksums, which is the metaheuristic paper's test. z < 0: the values of `a`
/// tend to be smaller. It is of little use below about 10 values each; mann_whitney() is exact there.
struct RankSum {
  double z = 0;
  double p = 1;
};
RankSum rank_sum(std::span<const double> a, std::span<const double> b);

/// How mann_whitney() finds its p.
enum class PValue : std::uint8_t {
  automatic,  ///< exact for samples of at most 20 values each without ties, otherwise asymptotic
  exact,      ///< from the distribution of U; meaningless for tied values
  asymptotic  ///< normal, corrected for ties and continuity
};

/// The same hypothesis as rank_sum(), with the p of scipy.stats.mannwhitneyu(method = "exact" or
/// "asymptotic"). SciPy's own "auto" switches to the approximation above 8 values in both samples.
struct MannWhitney {
  double u = 0;  ///< pairs in which the value of `a` is the larger one, ties counting half
  double p = 1;  ///< two-sided
  bool exact = false;
};
MannWhitney mann_whitney(std::span<const double> a, std::span<const double> b,
                         PValue method = PValue::automatic);

/// Vargha and Delaney's A ("A critique and improvement of the CL common language effect size statistics",
/// Journal of Educational and Behavioral Statistics 25, 2000): the probability that a value of `a` is larger
/// than one of `b`, with ties counting half. 0.5: no effect; they call 0.56, 0.64 and 0.71 (or one minus
/// these) small, medium and large. The rank-biserial correlation is 2 A - 1.
double vargha_delaney(std::span<const double> a, std::span<const double> b);

/// Holm's step-down adjustment for several tests: an adjusted p below the level is significant with the whole
/// family's error rate at that level. In the order of `p`.
std::vector<double> holm(std::span<const double> p);

}  // namespace knapsaq
