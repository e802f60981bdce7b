#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/random.h"
#include "knapsaq/search/evaluator.h"
#include "knapsaq/search/point_less.h"

namespace knapsaq {

struct SyntheticOptions {
  Divergence divergence = Divergence::kl;
  std::int64_t windows = 4;
  std::int64_t targets = 16;  ///< of one window
  double interaction = 0.3;   ///< 0: separable, so that the knapsack of the damages is exact
  double noise = 0.2;         ///< spread of a token's divergence around the point's, relative
  std::uint64_t seed = 1;
};

/// An evaluator without a model. Every level of a variable does its own damage, proportional to its local
/// error; neighbouring variables strengthen or weaken each other's; tokens are hit more or less hard, the
/// same ones by all points, and a little differently by each. All of it is a function of point and token
/// alone.
class SyntheticEvaluator : public Evaluator {
 public:
  explicit SyntheticEvaluator(const SearchSpace& space, SyntheticOptions options = {})
      : space_(space), options_(options) {
    Random random(options_.seed);
    for (const Variable& variable : space_.variables) {
      const double sensitivity = std::exp(random.normal());
      std::vector<double>& damages = damages_.emplace_back();
      for (const SpaceLevel& level : variable.levels) damages.push_back(sensitivity * level.error);
      couplings_.push_back(options_.interaction * (2 * random.uniform() - 1));
    }
    for (std::int64_t token = 0; token < options_.windows * options_.targets; ++token)
      hardness_.push_back(std::exp(options_.noise * random.normal()));
  }

  Divergence divergence() const override { return options_.divergence; }
  std::int64_t windows() const override { return options_.windows; }
  std::int64_t targets() const override { return options_.targets; }

  Measurement reference(WindowRange windows) override {
    Measurement result;
    result.windows = windows.count();
    result.tokens = windows.count() * options_.targets;
    result.jsd = 0;
    result.loss = 2;
    result.agreement = 1;
    result.per_token.assign(static_cast<std::size_t>(result.tokens), 0.0f);
    return result;
  }

  /// What a point does to the model: the divergence but for the tokens' spread.
  double damage(const Point& point) const {
    double total = 0;
    for (std::size_t v = 0; v < point.size(); ++v) {
      const double own = damages_[v][point[v]];
      total += own;
      // At most the smaller of both in size, so that the sum stays positive.
      if (v > 0) total += couplings_[v] * std::min(own, damages_[v - 1][point[v - 1]]);
    }
    return total;
  }

  /// The measurement on these windows, without counting or waiting.
  Measurement answer(const Point& point, WindowRange windows) const {
    const double mean = damage(point);
    std::uint64_t hash = options_.seed;
    for (const std::uint8_t level : point) hash = hash * 1099511628211u + level + 1;
    Measurement result;
    result.windows = windows.count();
    result.tokens = windows.count() * options_.targets;
    for (std::int64_t token = windows.first * options_.targets; token < windows.last * options_.targets;
         ++token) {
      Random own(hash + static_cast<std::uint64_t>(token));
      const double value =
          mean * hardness_[static_cast<std::size_t>(token)] * std::exp(0.1 * options_.noise * own.normal());
      const double told = options_.divergence == Divergence::kl ? value : 0.2 * value;
      result.per_token.push_back(static_cast<float>(told));
      result.kl += value;
    }
    result.kl /= static_cast<double>(result.tokens);
    if (options_.divergence == Divergence::jsd) result.jsd = 0.2 * result.kl;
    result.loss = 2 + result.kl;
    result.agreement = std::exp(-result.kl);
    return result;
  }

  void measure(std::span<const Point> points, WindowRange windows, const Done& done) override {
    for (const std::size_t index : sorted(points)) {
      check_cancelled();
      ++calls_;
      measured_windows_ += windows.count();
      done(index, answer(points[index], windows));
    }
  }

  /// As if every variable were a block of its own: points share what they have in common from the first on.
  double cost(std::span<const Point> points, WindowRange windows) const override {
    const std::vector<std::size_t> order = sorted(points);
    std::size_t passed = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
      const Point& point = points[order[i]];
      std::size_t shared = 0;
      if (i > 0)
        shared = static_cast<std::size_t>(
            std::mismatch(point.begin(), point.end(), points[order[i - 1]].begin()).first - point.begin());
      passed += point.size() - shared;
    }
    return static_cast<double>(passed) / static_cast<double>(space_.variables.size()) *
           static_cast<double>(windows.count()) / static_cast<double>(options_.windows);
  }

  std::int64_t calls() const { return calls_; }  ///< results that were made
  std::int64_t measured_windows() const { return measured_windows_; }

 private:
  static std::vector<std::size_t> sorted(std::span<const Point> points) {
    std::vector<std::size_t> order(points.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return PointLess()(points[a], points[b]); });
    return order;
  }

  const SearchSpace& space_;
  SyntheticOptions options_;
  std::vector<std::vector<double>> damages_;  ///< [variable][level]
  std::vector<double> couplings_;             ///< of a variable with the one before
  std::vector<double> hardness_;              ///< [token]
  std::int64_t calls_ = 0;
  std::int64_t measured_windows_ = 0;
};

}  // namespace knapsaq
