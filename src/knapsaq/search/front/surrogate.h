#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "knapsaq/search/space.h"

namespace knapsaq {

/// A measured point.
struct Sample {
  Point point;
  double divergence = 0;
};

/// The largest number of samples that a surrogate is fitted to. For 1500 samples, the five kernels and the
/// factor take 108 MB, and each of the hundred or so factorisations takes a fraction of a second; ten
/// thousand samples would take 5 GB and 300 times as long.
inline constexpr std::size_t kMostLearnt = 1500;

/// The most informative samples, at most `most`, in their original order. They are the single changes, which
/// separate the variables (the first of them if they are more than half of `most`), and of the others those
/// nearest the front, where predictions are needed: least divergence relative to the front's at that size.
std::vector<Sample> samples_to_learn(const SearchSpace& space, std::span<const Sample> samples,
                                     std::size_t most = kMostLearnt);

/// Effects of single changes: the divergence of the largest point, and its increase when one variable alone
/// is lowered to a level.
struct SingleIncreases {
  double base = 0;
  std::vector<std::vector<double>> increase;  ///< [variable][level] > 0, but 0 for the last level
};

/// Increases of all levels, from the measured ones (samples that differ from the largest point in one
/// variable, and the largest point itself). Between and beyond measured levels, an increase follows the local
/// error: increase = alpha * (error - error of the last level)^beta through two measured levels, with beta =
/// 1 if there is only one. Errors are squared if the space's errors are norms (a second-order loss is linear
/// in squared errors). A variable without measurements gets the median alpha. Increases of zero or less,
/// which are noise, become a small positive number. Throws std::invalid_argument if the largest point is not
/// among the samples.
SingleIncreases single_increases(const SearchSpace& space, std::span<const Sample> samples);

/// A surrogate of the evaluator: predicts the divergence of any point from measured ones.
///
/// With S(x) = base + sum of the single increases m_i(x_i), and shares f_i = m_i / S (f_0 = base / S), it is
///   log d(x) = gamma log S(x) + sum_i a_i(x_i) f_i + sum_{i<j} q_ij f_i f_j + noise.
/// S alone is correct while increases add up. gamma bends it as a whole, a_i makes a variable count for more
/// or less among others than alone, and q_ij makes two variables worse or better together. All coefficients
/// have Gaussian priors with mean 0 (gamma: 1), so this is a Gaussian process (Rasmussen and Williams 2006,
/// section 2.7). Its kernel has six scales, which maximise the marginal likelihood. The mean is explicit in
/// f, so the effect of changing one level is computed in constant time (see Walk).
class Surrogate {
 public:
  /// `samples`: at least one, with finite divergences. Takes 48 bytes for every pair of samples, and about a
  /// hundred Cholesky factorisations (see samples_to_learn()). Deterministic. Throws Cancelled.
  Surrogate(const SearchSpace& space, SingleIncreases increases, std::span<const Sample> samples);

  double predict(const Point& point) const;

  const SingleIncreases& increases() const { return increases_; }
  /// m_i corrected by a_i: the cost of a level as if increases were additive.
  double additive_cost(std::size_t variable, std::size_t level) const;

  /// A point that changes level by level, with the predicted divergence of each change.
  class Walk {
   public:
    Walk(const Surrogate& surrogate, Point point);
    const Point& point() const { return point_; }
    double divergence() const { return value(sum_, linear_, square_); }
    /// Prediction for the point with one or two variables at other levels; i != j.
    double with(std::size_t i, std::uint8_t level) const;
    double with(std::size_t i, std::uint8_t level, std::size_t j, std::uint8_t other) const;
    void set(std::size_t i, std::uint8_t level);

   private:
    double value(double sum, double linear, double square) const;
    const Surrogate& surrogate_;
    Point point_;
    double sum_ = 0;                ///< S
    double linear_ = 0;             ///< sum of a_i m_i
    double square_ = 0;             ///< m^T Q m
    std::vector<double> gradient_;  ///< Q m
  };

 private:
  /// Variances of the priors and of the noise.
  struct Scales {
    double gamma, variable, level, pair, block_pair, noise;
  };
  /// A sample as the kernel sees it.
  struct Row {
    Point point;
    double log_sum = 0;          ///< log S minus the median over the samples
    std::vector<double> shares;  ///< f_i, then f_0
  };
  /// One matrix [samples, samples] for each scale except the noise.
  using Grams = std::array<std::vector<double>, 5>;

  Row row(const Point& point) const;
  std::array<double, 5> kernels(const Row& a, const Row& b) const;
  static double combine(const Scales& scales, const std::array<double, 5>& kernels);
  /// Log-likelihood of the samples. `factor` receives the Cholesky factor of their covariance, `weights` the
  /// inverse covariance times the targets. Minus infinity if the covariance cannot be factored.
  double log_likelihood(const Scales& scales, const Grams& grams, std::vector<double>& factor,
                        std::vector<double>& weights) const;
  Grams grams() const;
  void choose_scales(const Grams& grams);
  void set_coefficients(std::span<const double> weights);

  const SearchSpace* space_;
  SingleIncreases increases_;
  double middle_ = 0;  ///< of log S over the samples
  std::vector<Row> rows_;
  std::vector<double> targets_;  ///< log d - log S
  Scales scales_{};
  double bend_ = 0;                          ///< gamma - 1
  std::vector<std::vector<double>> linear_;  ///< a_i [variable][level]; after the last variable, that of f_0
  std::vector<double> pairs_;                ///< q_ij / 2, [variables, variables], symmetric, diagonal 0
};

}  // namespace knapsaq
