#pragma once

#include <span>

namespace knapsaq {

/// Agreement of predictions with measurements, pair by pair. The correlations are NaN for fewer than two
/// pairs and if one side is constant, as in SciPy.

/// Root of the mean squared difference; 0 for nothing.
double rmse(std::span<const double> predicted, std::span<const double> measured);

/// Spearman's rho: Pearson's correlation of the ranks; equal values share the mean of their ranks.
double spearman(std::span<const double> a, std::span<const double> b);

/// Kendall's tau-b, which corrects for ties, in O(n log n) (Knight, "A computer method for calculating
/// Kendall's tau with ungrouped data", JASA 61, 1966).
double kendall(std::span<const double> a, std::span<const double> b);

}  // namespace knapsaq
