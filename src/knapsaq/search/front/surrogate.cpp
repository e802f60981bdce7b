#include "knapsaq/search/front/surrogate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/quant/blas.h"
#include "knapsaq/search/front.h"
#include "knapsaq/search/statistics.h"

namespace knapsaq {
namespace {

// Increases below this share of the median are measurement noise; as features they must not vanish.
constexpr double kLeastShare = 1e-3;
// Below the divergence of any two different models; keeps logarithms finite for a lossless candidate.
constexpr double kLeastDivergence = 1e-12;

/// Squared local error: a second-order loss is linear in it.
double squared_error(const SearchSpace& space, const SpaceLevel& level) {
  const bool squared = space.cost == Cost::hessian || space.cost == Cost::fisher;
  return squared ? level.error : level.error * level.error;
}

/// Number of variables at other levels, and the last of them.
struct Changes {
  std::size_t count = 0;
  std::size_t last = 0;
};
Changes count_changes(const Point& point, const Point& top) {
  Changes changes;
  for (std::size_t i = 0; i < top.size(); ++i)
    if (point[i] != top[i]) changes = {changes.count + 1, i};
  return changes;
}

/// A measured increase, at a level whose error exceeds the last level's by `error`.
struct Measured {
  double error;
  double increase;
};
double interpolate(const std::vector<Measured>& known, double error) {
  if (error <= 0) return 0;  // a level with no more error than the last one
  if (known.size() == 1) return known[0].increase * error / known[0].error;
  // Ascending by error: the two around `error`, or the outer two on its side.
  std::size_t upper = 1;
  while (upper + 1 < known.size() && known[upper].error < error) ++upper;
  const Measured& a = known[upper - 1];
  const Measured& b = known[upper];
  if (b.error <= a.error) return a.increase;
  const double beta = std::log(b.increase / a.increase) / std::log(b.error / a.error);
  // Noise in small increases can distort the exponent; errors and increases grow together.
  return a.increase * std::pow(error / a.error, std::clamp(beta, 0.25, 4.0));
}

}  // namespace

std::vector<Sample> samples_to_learn(const SearchSpace& space, std::span<const Sample> samples,
                                     std::size_t most) {
  if (samples.size() <= most) return {samples.begin(), samples.end()};
  const Point top = space.largest();
  std::vector<Outcome> outcomes;
  for (const Sample& sample : samples)
    outcomes.push_back({space.bits(sample.point), std::max(sample.divergence, kLeastDivergence)});
  const std::vector<std::size_t> best = front(outcomes);
  // Distance above the front at the same size, in logarithms like the surrogate's targets.
  const auto excess = [&](std::size_t i) {
    const auto after =
        std::ranges::upper_bound(best, outcomes[i].size, {}, [&](std::size_t b) { return outcomes[b].size; });
    return std::log(outcomes[i].divergence / outcomes[*std::prev(after)].divergence);
  };
  std::vector<bool> taken(samples.size(), false);
  std::vector<std::pair<double, std::size_t>> others;
  std::size_t count = 0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (count < most / 2 && count_changes(samples[i].point, top).count <= 1) {
      taken[i] = true;
      ++count;
    } else {
      others.emplace_back(excess(i), i);
    }
  }
  std::ranges::sort(others);
  for (std::size_t i = 0; count < most; ++i, ++count) taken[others[i].second] = true;
  std::vector<Sample> result;
  for (std::size_t i = 0; i < samples.size(); ++i)
    if (taken[i]) result.push_back(samples[i]);
  return result;
}

SingleIncreases single_increases(const SearchSpace& space, std::span<const Sample> samples) {
  const Point top = space.largest();
  const std::size_t n = space.variables.size();
  SingleIncreases result;
  result.base = std::numeric_limits<double>::quiet_NaN();
  std::vector<std::vector<double>> known(n);
  for (std::size_t i = 0; i < n; ++i)
    known[i].assign(space.variables[i].levels.size(), std::numeric_limits<double>::quiet_NaN());
  for (const Sample& sample : samples)
    if (sample.point == top) result.base = std::max(sample.divergence, kLeastDivergence);
  if (std::isnan(result.base)) throw std::invalid_argument("single_increases: the largest point is missing");
  std::vector<double> seen;
  for (const Sample& sample : samples) {
    const auto [changes, which] = count_changes(sample.point, top);
    if (changes != 1) continue;
    const double increase = sample.divergence - result.base;
    known[which][sample.point[which]] = increase;
    seen.push_back(increase);
  }
  const double least = std::max(kLeastShare * median(seen), kLeastDivergence);

  // Increase per unit of local error where only errors are known.
  std::vector<double> ratios;
  const auto error_of = [&](std::size_t i, std::size_t level) {
    const std::vector<SpaceLevel>& levels = space.variables[i].levels;
    return squared_error(space, levels[level]) - squared_error(space, levels.back());
  };
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t level = 0; level + 1 < known[i].size(); ++level)
      if (!std::isnan(known[i][level]) && error_of(i, level) > 0)
        ratios.push_back(std::max(known[i][level], least) / error_of(i, level));
  const double usual_ratio = ratios.empty() ? 1.0 : median(ratios);

  for (std::size_t i = 0; i < n; ++i) {
    std::vector<Measured> measured;
    for (std::size_t level = 0; level + 1 < known[i].size(); ++level)
      if (!std::isnan(known[i][level]) && error_of(i, level) > 0)
        measured.push_back({error_of(i, level), std::max(known[i][level], least)});
    std::ranges::sort(measured, {}, &Measured::error);
    std::vector<double> increases(known[i].size(), 0.0);
    for (std::size_t level = 0; level + 1 < increases.size(); ++level) {
      const double error = error_of(i, level);
      double increase = known[i][level];
      if (std::isnan(increase))
        increase = std::isnan(error)  ? least
                   : measured.empty() ? usual_ratio * error
                                      : interpolate(measured, error);
      increases[level] = std::max(increase, least);
    }
    result.increase.push_back(std::move(increases));
  }
  return result;
}

Surrogate::Surrogate(const SearchSpace& space, SingleIncreases increases, std::span<const Sample> samples)
    : space_(&space), increases_(std::move(increases)) {
  std::vector<double> log_sums;
  for (const Sample& sample : samples) {
    rows_.push_back(row(sample.point));
    log_sums.push_back(rows_.back().log_sum);
    targets_.push_back(std::log(std::max(sample.divergence, kLeastDivergence)) - log_sums.back());
  }
  middle_ = median(log_sums);
  for (Row& one : rows_) one.log_sum -= middle_;
  const Grams all = grams();
  choose_scales(all);
  std::vector<double> factor;
  std::vector<double> weights;
  log_likelihood(scales_, all, factor, weights);
  set_coefficients(weights);
}

Surrogate::Row Surrogate::row(const Point& point) const {
  const std::size_t n = point.size();
  Row result{point, 0, std::vector<double>(n + 1)};
  double sum = increases_.base;
  for (std::size_t i = 0; i < n; ++i) {
    result.shares[i] = increases_.increase[i][point[i]];
    sum += result.shares[i];
  }
  result.shares[n] = increases_.base;
  for (double& share : result.shares) share /= sum;
  result.log_sum = std::log(sum) - middle_;
  return result;
}

std::array<double, 5> Surrogate::kernels(const Row& a, const Row& b) const {
  const std::size_t n = a.point.size();
  // Shares are about 1/n; these factors scale every kernel to the order of 1.
  const auto scale = static_cast<double>(n);
  double variables = a.shares[n] * b.shares[n];
  double levels = 0;
  double sum = 0;
  double squares = 0;
  double block_pairs = 0;
  double block_sum = 0;
  double block_squares = 0;
  std::int64_t block = -1;
  const auto close_block = [&] {
    block_pairs += (block_sum * block_sum - block_squares) / 2;
    block_sum = block_squares = 0;
  };
  for (std::size_t i = 0; i < n; ++i) {
    const double product = a.shares[i] * b.shares[i];
    if (space_->variables[i].block != block) {
      close_block();
      block = space_->variables[i].block;
    }
    sum += product;
    squares += product * product;
    block_sum += product;
    block_squares += product * product;
    if (a.point[i] == b.point[i]) levels += product;
  }
  close_block();
  variables += sum;
  return {a.log_sum * b.log_sum, scale * variables, scale * levels, scale * scale * (sum * sum - squares) / 2,
          scale * scale * block_pairs};
}

double Surrogate::combine(const Scales& scales, const std::array<double, 5>& kernels) {
  return scales.gamma * kernels[0] + scales.variable * kernels[1] + scales.level * kernels[2] +
         scales.pair * kernels[3] + scales.block_pair * kernels[4];
}

Surrogate::Grams Surrogate::grams() const {
  const std::size_t count = rows_.size();
  Grams result;
  for (std::vector<double>& gram : result) gram.resize(count * count);
  parallel_for(count, [&](std::size_t r) {
    for (std::size_t c = 0; c <= r; ++c) {
      const std::array<double, 5> values = kernels(rows_[r], rows_[c]);
      for (std::size_t k = 0; k < values.size(); ++k) result[k][r * count + c] = values[k];
    }
  });
  return result;
}

double Surrogate::log_likelihood(const Scales& scales, const Grams& grams, std::vector<double>& factor,
                                 std::vector<double>& weights) const {
  check_cancelled();
  const std::size_t count = rows_.size();
  factor.assign(count * count, 0.0);
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t c = 0; c <= r; ++c) {
      const std::size_t at = r * count + c;
      factor[at] = combine(scales, {grams[0][at], grams[1][at], grams[2][at], grams[3][at], grams[4][at]});
    }
    factor[r * count + r] += scales.noise;
  }
  const auto stride = static_cast<std::int64_t>(count);
  std::vector<double> diagonal(count);
  for (std::size_t r = 0; r < count; ++r) diagonal[r] = factor[r * count + r];
  constexpr double kImpossible = -std::numeric_limits<double>::infinity();
  if (!blas::cholesky(stride, factor.data(), stride)) return kImpossible;
  for (std::size_t r = 0; r < count; ++r)
    if (!blas::is_pivot(factor[r * count + r], diagonal[r], stride)) return kImpossible;
  // L z = y, then L^T w = z.
  weights = targets_;
  double log_determinant = 0;
  double norm = 0;
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t c = 0; c < r; ++c) weights[r] -= factor[r * count + c] * weights[c];
    weights[r] /= factor[r * count + r];
    norm += weights[r] * weights[r];
    log_determinant += std::log(factor[r * count + r]);
  }
  for (std::size_t r = count; r-- > 0;) {
    weights[r] /= factor[r * count + r];
    for (std::size_t c = 0; c < r; ++c) weights[c] -= factor[r * count + c] * weights[r];
  }
  return -norm / 2 - log_determinant;
}

void Surrogate::choose_scales(const Grams& grams) {
  // Start roughly at the scales of the embedded models. The search below uses coarse steps (factors of four),
  // because the likelihood is flat and every trial is a factorisation.
  scales_ = {.gamma = 0.02, .variable = 0.05, .level = 0.02, .pair = 0.02, .block_pair = 0.02, .noise = 1e-4};
  constexpr double kStep = 4;
  constexpr double kSmallest = 1e-7;
  constexpr double kLargest = 10;
  constexpr int kSweeps = 3;
  std::vector<double> factor;
  std::vector<double> weights;
  double best = log_likelihood(scales_, grams, factor, weights);
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    const double before = best;
    for (double Scales::*member : {&Scales::noise, &Scales::variable, &Scales::pair, &Scales::block_pair,
                                   &Scales::level, &Scales::gamma}) {
      for (const double step : {kStep, 1 / kStep}) {
        bool moved = false;
        while (true) {
          Scales other = scales_;
          other.*member *= step;
          if (other.*member < kSmallest || other.*member > kLargest) break;
          const double likelihood = log_likelihood(other, grams, factor, weights);
          if (likelihood <= best) break;
          best = likelihood;
          scales_ = other;
          moved = true;
        }
        if (moved) break;
      }
    }
    if (best - before < 0.5) break;  // no evidence worth a further sweep
  }
}

void Surrogate::set_coefficients(std::span<const double> weights) {
  const std::size_t n = space_->variables.size();
  const auto scale = static_cast<double>(n);
  linear_.clear();
  for (const Variable& variable : space_->variables) linear_.emplace_back(variable.levels.size(), 0.0);
  linear_.emplace_back(1, 0.0);
  pairs_.assign(n * n, 0.0);
  bend_ = 0;
  for (std::size_t k = 0; k < rows_.size(); ++k) {
    const Row& one = rows_[k];
    bend_ += scales_.gamma * weights[k] * one.log_sum;
    for (std::size_t i = 0; i <= n; ++i) {
      const double shared = scale * weights[k] * one.shares[i];
      for (double& coefficient : linear_[i]) coefficient += scales_.variable * shared;
      if (i < n) linear_[i][one.point[i]] += scales_.level * shared;
    }
  }
  parallel_for(n, [&](std::size_t i) {
    for (std::size_t k = 0; k < rows_.size(); ++k) {
      const Row& one = rows_[k];
      const double factor = scale * scale * weights[k] * one.shares[i] / 2;
      for (std::size_t j = 0; j < n; ++j) {
        if (i == j) continue;
        // Embedding and head belong to no block, so they are never in the same block.
        const std::int64_t block = space_->variables[i].block;
        const bool same = block >= 0 && block == space_->variables[j].block;
        pairs_[i * n + j] += (scales_.pair + (same ? scales_.block_pair : 0)) * factor * one.shares[j];
      }
    }
  });
}

double Surrogate::predict(const Point& point) const { return Walk(*this, point).divergence(); }

double Surrogate::additive_cost(std::size_t variable, std::size_t level) const {
  return increases_.increase[variable][level] * std::max(1 + linear_[variable][level], kLeastShare);
}

Surrogate::Walk::Walk(const Surrogate& surrogate, Point point)
    : surrogate_(surrogate), point_(std::move(point)), gradient_(point_.size()) {
  const std::size_t n = point_.size();
  sum_ = surrogate.increases_.base;
  linear_ = surrogate.linear_[n][0] * surrogate.increases_.base;
  for (std::size_t i = 0; i < n; ++i) {
    const double increase = surrogate.increases_.increase[i][point_[i]];
    sum_ += increase;
    linear_ += surrogate.linear_[i][point_[i]] * increase;
    for (std::size_t j = 0; j < n; ++j)
      gradient_[i] += surrogate.pairs_[i * n + j] * surrogate.increases_.increase[j][point_[j]];
    square_ += increase * gradient_[i];
  }
}

double Surrogate::Walk::value(double sum, double linear, double square) const {
  const double log_sum = std::log(sum);
  return std::exp(log_sum + surrogate_.bend_ * (log_sum - surrogate_.middle_) + linear / sum +
                  square / (sum * sum));
}

double Surrogate::Walk::with(std::size_t i, std::uint8_t level) const {
  const std::vector<double>& increase = surrogate_.increases_.increase[i];
  const std::vector<double>& coefficient = surrogate_.linear_[i];
  const double change = increase[level] - increase[point_[i]];
  return value(sum_ + change,
               linear_ + coefficient[level] * increase[level] - coefficient[point_[i]] * increase[point_[i]],
               square_ + 2 * change * gradient_[i]);
}

double Surrogate::Walk::with(std::size_t i, std::uint8_t level, std::size_t j, std::uint8_t other) const {
  double sum = sum_;
  double linear = linear_;
  double square = square_;
  double changes[2];
  const std::size_t variables[2] = {i, j};
  const std::uint8_t levels[2] = {level, other};
  for (int k = 0; k < 2; ++k) {
    const std::size_t v = variables[k];
    const std::vector<double>& increase = surrogate_.increases_.increase[v];
    const std::vector<double>& coefficient = surrogate_.linear_[v];
    changes[k] = increase[levels[k]] - increase[point_[v]];
    sum += changes[k];
    linear += coefficient[levels[k]] * increase[levels[k]] - coefficient[point_[v]] * increase[point_[v]];
    square += 2 * changes[k] * gradient_[v];
  }
  square += 2 * changes[0] * changes[1] * surrogate_.pairs_[i * point_.size() + j];
  return value(sum, linear, square);
}

void Surrogate::Walk::set(std::size_t i, std::uint8_t level) {
  const std::vector<double>& increase = surrogate_.increases_.increase[i];
  const std::vector<double>& coefficient = surrogate_.linear_[i];
  const double change = increase[level] - increase[point_[i]];
  sum_ += change;
  linear_ += coefficient[level] * increase[level] - coefficient[point_[i]] * increase[point_[i]];
  square_ += 2 * change * gradient_[i];
  const std::size_t n = point_.size();
  for (std::size_t j = 0; j < n; ++j) gradient_[j] += surrogate_.pairs_[j * n + i] * change;
  point_[i] = level;
}

}  // namespace knapsaq
