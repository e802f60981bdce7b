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

/// Most samples that a model learns from. The five kernels and the factor of 1500 take 108 MB, and one of the
/// hundred or so factorisations a fraction of a second; ten thousand would take 5 GB and 300 times as long.
inline constexpr std::size_t kMostLearnt = 1500;

/// The samples that a model learns most from, at most `most`, in their order: single changes, which tell the
/// variables apart (should they be more than half of `most`, the first of them), and of the others those
/// nearest the front, where predictions are asked for: least divergence relative to the front's at that size.
std::vector<Sample> samples_to_learn(const SearchSpace& space, std::span<const Sample> samples,
                                     std::size_t most = kMostLearnt);

/// What single changes do to the model: the divergence of the largest point, and by how much it grows when
/// one variable alone goes down to a level.
struct SingleDamages {
  double base = 0;
  std::vector<std::vector<double>> damage;  ///< [variable][level] > 0, but 0 for the last level
};

/// Damages of all levels from those that were measured (samples that differ from the largest point in one
/// variable, and the largest point itself). Between and beyond measured levels a damage follows the local
/// error: damage = alpha * (error - error of the last level)^beta through two measured levels, beta = 1 with
/// one; squared norms if the space knows norms (a second-order loss is linear in squared errors). A variable
/// that nothing was measured of gets the median alpha. Damages of zero or less, which noise makes, become a
/// small positive number. Throws std::invalid_argument if the largest point is not among the samples.
SingleDamages single_damages(const SearchSpace& space, std::span<const Sample> samples);

/// Divergence of any point, learnt from measured ones.
///
/// With S(x) = base + sum of the single damages m_i(x_i), and shares f_i = m_i / S (f_0 = base / S), the
/// model is
///   log d(x) = gamma log S(x) + sum_i a_i(x_i) f_i + sum_{i<j} q_ij f_i f_j + noise.
/// S alone is what holds while damages add up; gamma bends it as a whole; a_i says that a variable counts for
/// more or less among others than alone, q_ij that two are worse or better together. All coefficients have
/// Gaussian priors with mean 0 (gamma: 1), so this is a Gaussian process (Rasmussen and Williams 2006,
/// section 2.7) whose kernel has six scales; they are chosen by marginal likelihood. Being explicit in f, the
/// mean can be minimised with changes of one level in constant time (see Walk).
class DamageModel {
 public:
  /// `samples` are at least one, with finite divergences. Takes 48 bytes for every pair of them, and about a
  /// hundred Cholesky factorisations (see samples_to_learn()). Deterministic. Throws Cancelled.
  DamageModel(const SearchSpace& space, SingleDamages damages, std::span<const Sample> samples);

  double predict(const Point& point) const;

  const SingleDamages& damages() const { return damages_; }
  /// m_i with what the model learnt about a_i: the cost of a level as if damages were additive.
  double additive_cost(std::size_t variable, std::size_t level) const;

  /// A point that changes level by level, with the predicted divergence of every change.
  class Walk {
   public:
    Walk(const DamageModel& model, Point point);
    const Point& point() const { return point_; }
    double divergence() const { return value(sum_, linear_, square_); }
    /// Of the point with one or two variables at other levels; i != j.
    double with(std::size_t i, std::uint8_t level) const;
    double with(std::size_t i, std::uint8_t level, std::size_t j, std::uint8_t other) const;
    void set(std::size_t i, std::uint8_t level);

   private:
    double value(double sum, double linear, double square) const;
    const DamageModel& model_;
    Point point_;
    double sum_ = 0;                ///< S
    double linear_ = 0;             ///< sum of a_i m_i
    double square_ = 0;             ///< m^T Q m
    std::vector<double> gradient_;  ///< Q m
  };

 private:
  /// Variances of the priors, and of what the model cannot say.
  struct Scales {
    double gamma, variable, level, pair, block_pair, noise;
  };
  /// A sample as the kernel sees it.
  struct Row {
    Point point;
    double log_sum = 0;          ///< log S, from the middle of the samples'
    std::vector<double> shares;  ///< f_i, then f_0
  };
  /// One matrix [samples, samples] for every scale but the noise.
  using Grams = std::array<std::vector<double>, 5>;

  Row row(const Point& point) const;
  std::array<double, 5> kernels(const Row& a, const Row& b) const;
  static double combine(const Scales& scales, const std::array<double, 5>& kernels);
  /// Of the samples; `factor` gets the Cholesky factor of their covariance, `weights` its inverse times
  /// targets. Minus infinity if the covariance cannot be factored.
  double log_likelihood(const Scales& scales, const Grams& grams, std::vector<double>& factor,
                        std::vector<double>& weights) const;
  Grams grams() const;
  void choose_scales(const Grams& grams);
  void set_coefficients(std::span<const double> weights);

  const SearchSpace* space_;
  SingleDamages damages_;
  double middle_ = 0;  ///< of log S over the samples
  std::vector<Row> rows_;
  std::vector<double> targets_;  ///< log d - log S
  Scales scales_{};
  double bend_ = 0;                          ///< gamma - 1
  std::vector<std::vector<double>> linear_;  ///< a_i [variable][level]; behind the last variable that of f_0
  std::vector<double> pairs_;                ///< q_ij / 2, [variables, variables], symmetric, diagonal 0
};

}  // namespace knapsaq
