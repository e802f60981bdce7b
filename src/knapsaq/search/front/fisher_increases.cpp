#include "knapsaq/search/front/fisher_increases.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <stdexcept>
#include <utility>
#include <vector>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/quant/blas.h"
#include "knapsaq/search/statistics.h"

namespace knapsaq {
namespace {

// Spreads of the corrections' priors, in logarithms. Against measured single changes of the embedded models,
// the costs of levels with equal bits are off by 0.4 to 1.1 (standard deviation), those of different bits by
// 0.3 more.
constexpr double kAll = 2;         // c: KL or Jensen-Shannon divergence, an eighth of it
constexpr double kBits = 0.3;      // c_b
constexpr double kVariable = 0.6;  // u_i
constexpr double kAtBits = 0.33;   // w_i(b)
constexpr double kLevel = 0.1;     // v_i(l)
constexpr double kBend = 0.2;      // g
// What this model of a divergence leaves open: interactions of variables.
constexpr double kNoise = 0.03;
// Degrees of freedom of the long tails (Student's t).
constexpr double kTails = 4;
// Share of the uncertainty that a draw shows. All of it leads too far for some thirty measurements:
// wiki-llama-6m ends at 3 bits with KL 0.0194, with a half 0.0185, with a quarter 0.0189.
constexpr double kDrawn = 0.5;
constexpr int kSteps = 12;
// Largest change of a correction in a step: the model is far from linear beyond.
constexpr double kLargestStep = 1;
constexpr double kLeastDivergence = 1e-12;
// Costs below this share of the median are as good as none; as increases they must not vanish.
constexpr double kLeastShare = 1e-3;

/// A correction, and the variance of its prior, which long tails widen as it grows.
struct Correction {
  double value = 0;
  double variance = 0;

  void widen(double spread) { variance = (kTails * spread * spread + value * value) / (kTails + 1); }
  void move_to(double other) { value += std::clamp(other - value, -kLargestStep, kLargestStep); }
};

/// A sample's derivatives by log m_i, and by g.
struct Row {
  std::vector<double> shares;
  std::vector<double> of_bits;  ///< sums of the shares
  double sum = 0;               ///< of all
  double bend = 0;
  double target = 0;
};

class Fit {
 public:
  Fit(const SearchSpace& space, std::span<const Sample> samples) : space_(space), samples_(samples) {
    const Point top = space.largest();
    base_ = std::numeric_limits<double>::quiet_NaN();
    for (const Sample& sample : samples)
      if (sample.point == top) base_ = std::max(sample.divergence, kLeastDivergence);
    if (std::isnan(base_)) throw std::invalid_argument("fisher_increases: the largest point is missing");
    read_costs();
  }

  SingleIncreases run(Random* random) {
    for (int step = 0; step < kSteps; ++step) {
      check_cancelled();
      improve();
    }
    if (random != nullptr) draw(*random);
    SingleIncreases result{base_, {}};
    for (std::size_t i = 0; i < costs_.size(); ++i) {
      std::vector<double>& increases = result.increase.emplace_back();
      for (std::size_t l = 0; l < costs_[i].size(); ++l) increases.push_back(increase(i, l));
      increases.back() = 0;
    }
    return result;
  }

 private:
  void read_costs() {
    std::vector<double> all;
    std::map<int, std::size_t> classes;
    for (const Variable& variable : space_.variables) {
      std::vector<double>& own = costs_.emplace_back();
      std::vector<std::size_t>& bits = bits_.emplace_back();
      const double last = variable.levels.back().error_by(Cost::fisher);
      for (const SpaceLevel& level : variable.levels) {
        own.push_back(level.error_by(Cost::fisher) - last);
        if (std::isnan(own.back())) throw std::invalid_argument("fisher_increases: a cost is unknown");
        if (own.back() > 0) all.push_back(own.back());
        bits.push_back(
            classes.try_emplace(static_cast<int>(std::lround(level.bits)), classes.size()).first->second);
      }
      variables_.push_back({0, kVariable * kVariable});
      levels_.emplace_back(variable.levels.size(), Correction{0, kLevel * kLevel});
      at_bits_.emplace_back();
    }
    of_bits_.assign(classes.size(), Correction{0, kBits * kBits});
    for (std::vector<Correction>& own : at_bits_)
      own.assign(classes.size(), Correction{0, kAtBits * kAtBits});
    const double least = std::max(all.empty() ? 0 : kLeastShare * median(all), kLeastDivergence);
    for (std::vector<double>& own : costs_)
      for (double& cost : own) cost = std::max(cost, least);
  }

  double correction(std::size_t i, std::size_t l) const {
    return all_.value + of_bits_[bits_[i][l]].value + variables_[i].value + at_bits_[i][bits_[i][l]].value +
           levels_[i][l].value;
  }
  double increase(std::size_t i, std::size_t l) const {
    return l + 1 == costs_[i].size() ? 0 : costs_[i][l] * std::exp(correction(i, l));
  }

  Row row(const Sample& sample) const {
    const std::size_t n = sample.point.size();
    Row result{std::vector<double>(n), std::vector<double>(of_bits_.size()), 0, 0, 0};
    double sum = base_;
    for (std::size_t i = 0; i < n; ++i) sum += result.shares[i] = increase(i, sample.point[i]);
    result.bend = std::log(sum / base_);
    // What is left to explain, and what the corrections so far explain, as if the model were linear.
    result.target = std::log(std::max(sample.divergence, kLeastDivergence)) - std::log(sum);
    for (std::size_t i = 0; i < n; ++i) {
      double& share = result.shares[i];
      share *= (1 + bend_.value) / sum;
      result.of_bits[bits_[i][sample.point[i]]] += share;
      result.sum += share;
      result.target += share * correction(i, sample.point[i]);
    }
    return result;
  }

  void improve() {
    const std::vector<Row> rows = all_rows();
    std::vector<double> weights;
    for (const Row& one : rows) weights.push_back(one.target);
    if (!solve(rows, weights)) return;
    const Sums sums = sums_of(rows, weights);
    for (std::size_t i = 0; i < variables_.size(); ++i) {
      for (std::size_t l = 0; l < levels_[i].size(); ++l) {
        levels_[i][l].move_to(levels_[i][l].variance * sums.levels[i][l]);
        levels_[i][l].widen(kLevel);
      }
      for (std::size_t k = 0; k < of_bits_.size(); ++k) {
        at_bits_[i][k].move_to(at_bits_[i][k].variance * sums.at_bits[i][k]);
        at_bits_[i][k].widen(kAtBits);
      }
      variables_[i].move_to(variables_[i].variance * sums.variables[i]);
      variables_[i].widen(kVariable);
    }
    for (std::size_t k = 0; k < of_bits_.size(); ++k)
      of_bits_[k].move_to(of_bits_[k].variance * sums.of_bits[k]);
    all_.move_to(all_.variance * sums.all);
    bend_.move_to(bend_.variance * sums.bend);
    bend_.value = std::clamp(bend_.value, -0.5, 0.5);
  }

  /// Moves the corrections by a draw from what the samples leave open, as if the model were linear: a draw
  /// from the priors, less what the samples tell about it (Matheron's rule; Wilson et al. 2020,
  /// arXiv:2002.09309).
  void draw(Random& random) {
    const std::vector<Row> rows = all_rows();
    const auto drawn = [&](const Correction& one) {
      return Correction{kDrawn * std::sqrt(one.variance) * random.normal(), one.variance};
    };
    const auto all_drawn = [&](const std::vector<Correction>& some) {
      std::vector<Correction> result;
      for (const Correction& one : some) result.push_back(drawn(one));
      return result;
    };
    Fit other = *this;
    other.all_ = drawn(all_);
    other.of_bits_ = all_drawn(of_bits_);
    other.variables_ = all_drawn(variables_);
    for (std::vector<Correction>& own : other.at_bits_) own = all_drawn(own);
    for (std::vector<Correction>& own : other.levels_) own = all_drawn(own);
    other.bend_ = drawn(bend_);
    std::vector<double> weights;
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const Point& point = samples_[r].point;
      double told = rows[r].bend * other.bend_.value + kNoise * random.normal();
      for (std::size_t i = 0; i < point.size(); ++i)
        told += rows[r].shares[i] * other.correction(i, point[i]);
      weights.push_back(-told);
    }
    if (!solve(rows, weights)) return;
    const Sums sums = sums_of(rows, weights);
    const auto add = [](Correction& to, const Correction& from, double sum) {
      to.value += from.value + from.variance * sum;
    };
    add(all_, other.all_, sums.all);
    add(bend_, other.bend_, sums.bend);
    for (std::size_t k = 0; k < of_bits_.size(); ++k) add(of_bits_[k], other.of_bits_[k], sums.of_bits[k]);
    for (std::size_t i = 0; i < variables_.size(); ++i) {
      add(variables_[i], other.variables_[i], sums.variables[i]);
      for (std::size_t k = 0; k < of_bits_.size(); ++k)
        add(at_bits_[i][k], other.at_bits_[i][k], sums.at_bits[i][k]);
      for (std::size_t l = 0; l < levels_[i].size(); ++l)
        add(levels_[i][l], other.levels_[i][l], sums.levels[i][l]);
    }
  }

  std::vector<Row> all_rows() const {
    std::vector<Row> rows;
    for (const Sample& sample : samples_) rows.push_back(row(sample));
    return rows;
  }

  /// weights = (covariance of the samples)^-1 weights; false if rounding leaves no factor.
  bool solve(const std::vector<Row>& rows, std::vector<double>& weights) const {
    const std::size_t count = rows.size();
    std::vector<double> factor(count * count);
    parallel_for(count, [&](std::size_t r) {
      for (std::size_t c = 0; c <= r; ++c) factor[r * count + c] = covariance(rows, r, c);
      factor[r * count + r] += kNoise * kNoise;
    });
    const auto stride = static_cast<std::int64_t>(count);
    if (!blas::cholesky(stride, factor.data(), stride)) return false;
    for (std::size_t r = 0; r < count; ++r) {
      for (std::size_t c = 0; c < r; ++c) weights[r] -= factor[r * count + c] * weights[c];
      weights[r] /= factor[r * count + r];
    }
    for (std::size_t r = count; r-- > 0;) {
      weights[r] /= factor[r * count + r];
      for (std::size_t c = 0; c < r; ++c) weights[c] -= factor[r * count + c] * weights[r];
    }
    return true;
  }

  /// The samples' weights times their derivatives by every correction.
  struct Sums {
    double all = 0;
    double bend = 0;
    std::vector<double> of_bits;
    std::vector<double> variables;
    std::vector<std::vector<double>> at_bits;
    std::vector<std::vector<double>> levels;
  };
  Sums sums_of(const std::vector<Row>& rows, const std::vector<double>& weights) const {
    Sums sums;
    sums.of_bits.resize(of_bits_.size());
    sums.variables.resize(variables_.size());
    sums.at_bits.assign(variables_.size(), sums.of_bits);
    for (const std::vector<Correction>& own : levels_) sums.levels.emplace_back(own.size());
    for (std::size_t r = 0; r < rows.size(); ++r) {
      sums.all += weights[r] * rows[r].sum;
      sums.bend += weights[r] * rows[r].bend;
      for (std::size_t k = 0; k < of_bits_.size(); ++k) sums.of_bits[k] += weights[r] * rows[r].of_bits[k];
      for (std::size_t i = 0; i < variables_.size(); ++i) {
        const std::size_t level = samples_[r].point[i];
        const double one = weights[r] * rows[r].shares[i];
        sums.variables[i] += one;
        sums.at_bits[i][bits_[i][level]] += one;
        sums.levels[i][level] += one;
      }
    }
    return sums;
  }

  double covariance(const std::vector<Row>& rows, std::size_t r, std::size_t c) const {
    const Row& a = rows[r];
    const Row& b = rows[c];
    double result = all_.variance * a.sum * b.sum + bend_.variance * a.bend * b.bend;
    for (std::size_t k = 0; k < of_bits_.size(); ++k)
      result += of_bits_[k].variance * a.of_bits[k] * b.of_bits[k];
    const Point& first = samples_[r].point;
    const Point& second = samples_[c].point;
    for (std::size_t i = 0; i < first.size(); ++i) {
      double variance = variables_[i].variance;
      const std::size_t bits = bits_[i][first[i]];
      if (bits == bits_[i][second[i]]) variance += at_bits_[i][bits].variance;
      if (first[i] == second[i]) variance += levels_[i][first[i]].variance;
      result += variance * a.shares[i] * b.shares[i];
    }
    return result;
  }

  const SearchSpace& space_;
  std::span<const Sample> samples_;
  double base_ = 0;
  std::vector<std::vector<double>> costs_;      ///< [variable][level] above the last level's
  std::vector<std::vector<std::size_t>> bits_;  ///< [variable][level]: number of the class
  Correction all_{0, kAll* kAll};
  std::vector<Correction> of_bits_;
  std::vector<Correction> variables_;
  std::vector<std::vector<Correction>> at_bits_;  ///< [variable][class]
  std::vector<std::vector<Correction>> levels_;
  Correction bend_{0, kBend* kBend};
};

}  // namespace

bool has_fisher(const SearchSpace& space) {
  return std::ranges::all_of(space.variables, [](const Variable& variable) {
    return std::ranges::none_of(
        variable.levels, [](const SpaceLevel& level) { return std::isnan(level.error_by(Cost::fisher)); });
  });
}

SingleIncreases fisher_increases(const SearchSpace& space, std::span<const Sample> samples, Random* random) {
  return Fit(space, samples).run(random);
}

}  // namespace knapsaq
