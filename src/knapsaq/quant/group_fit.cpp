#include "knapsaq/quant/group_fit.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "knapsaq/base/float16.h"

namespace knapsaq {

namespace {

constexpr int kTried = 16;  // at the same time: the size of WeightedSums

// The rounds of least squares. Each takes half as long as everything else. On a trained model's weights, the
// second reduces GPTQ's Hessian error by 0.5 %, and a third and fourth together by as much again.
constexpr int kRounds = 2;

/// The narrowest range that is tried, as a fraction of the whole. It is slightly below the best one for
/// normal weights in groups of 128 (2 bits: 0.57, 3: 0.72, 4: 0.84), because trained weights have heavier
/// tails.
float narrowest(int bits) {
  switch (bits) {
    case 2:
      return 0.35f;
    case 3:
      return 0.5f;
    case 4:
      return 0.65f;
    default:
      return 0.9f;
  }
}

/// Scale and bias of a group, and their error.
struct Choice {
  float scale = 0;
  float bias = 0;
  float error = 0;
};

struct Tried {
  alignas(64) std::array<float, kTried> scales;
  alignas(64) std::array<float, kTried> biases;
};

/// One group of weights.
class GroupFit {
 public:
  /// `rounded`: candidates are values that fp16 metadata can hold; otherwise any with a zero point that is a
  /// code.
  GroupFit(std::span<const float> weights, std::span<const float> importance, const Scheme& scheme,
           bool rounded)
      : weights_(weights),
        importance_(importance),
        scheme_(scheme),
        rounded_(rounded),
        largest_(static_cast<float>((1 << scheme.bits) - 1)) {}

  Choice best(const WeightRange& range, const Choice& start, Fit fit) {
    Tried tried;
    best_.error = -1;
    const float least = narrowest(scheme_.bits);
    for (int i = 0; i < kTried; ++i) {
      const float part = 1.0f - (1.0f - least) * static_cast<float>(i - 1) / static_cast<float>(kTried - 2);
      put(tried, i, from_range(range, part));
    }
    put(tried, 0, start);
    int at = measure(tried);
    if (fit == Fit::range) {
      if (at == 0) at = 1;
      // Between the neighbours of the best.
      const float step = (1.0f - least) / static_cast<float>(kTried - 2);
      const float middle = 1.0f - step * static_cast<float>(at - 1);
      for (int i = 0; i < kTried; ++i) {
        const float offset = (static_cast<float>(i) + 0.5f) / static_cast<float>(kTried / 2) - 1.0f;
        put(tried, i, from_range(range, middle + step * offset));
      }
      measure(tried);
      return best_;
    }
    for (int round = 0; round < kRounds; ++round) {
      for (int i = 0; i < kTried; ++i) put(tried, i, least_squares(tried, i));
      measure(tried);
    }
    return best_;
  }

  /// Sixteen adjacent scale codes of second-level metadata, with zero codes found by least squares.
  struct Codes {
    int scale = 0;
    int zero = 0;
    Choice choice;
  };
  Codes best_codes(float minimum, float step, const Choice& wanted) {
    // As in PackedMatrix::affine().
    const auto bias_of = [&](float scale, int code) {
      return -(scale * (static_cast<float>(code * ((1 << scheme_.bits) - 1)) / 255.0f));
    };
    const auto zero_code = [&](float scale, float bias) {
      if (!(scale > 0)) return 0;
      return static_cast<int>(std::nearbyint(std::clamp(-bias / scale / largest_, 0.0f, 1.0f) * 255.0f));
    };
    const int nearest =
        step > 0 ? static_cast<int>(std::clamp((wanted.scale - minimum) / step, 0.0f, 255.0f) + 0.5f) : 0;
    const int first = std::clamp(nearest - kTried / 2, 0, 256 - kTried);
    const float middle = wanted.bias + wanted.scale * largest_ / 2;
    Tried tried;
    std::array<int, kTried> zeros;
    Codes best;
    for (int round = 0; round <= kRounds; ++round) {
      for (int i = 0; i < kTried; ++i) {
        const float scale = minimum + step * static_cast<float>(first + i);
        const float bias = round == 0 ? middle - scale * largest_ / 2
                                      : tried.biases[i] + (sums_.h[i] > 0 ? sums_.hr[i] / sums_.h[i] : 0.0f);
        zeros[i] = zero_code(scale, bias);
        put(tried, i, {scale, bias_of(scale, zeros[i]), 0});
      }
      best_.error = round == 0 ? -1 : best.choice.error;
      if (const int at = measure(tried); at >= 0) best = {first + at, zeros[at], best_};
    }
    return best;
  }

  /// The error of one choice.
  float error(const Choice& choice) {
    Tried tried;
    for (int i = 0; i < kTried; ++i) put(tried, i, choice);
    best_.error = -1;
    measure(tried);
    return best_.error;
  }

 private:
  static void put(Tried& tried, int i, const Choice& choice) {
    tried.scales[i] = choice.scale;
    tried.biases[i] = choice.bias;
  }

  /// Takes the best of `tried` if it is better than the best so far, and returns its index; else -1.
  int measure(const Tried& tried) {
    group_kernels().weighted_sums(weights_.data(), importance_.data(),
                                  static_cast<std::int64_t>(weights_.size()), tried.scales.data(),
                                  tried.biases.data(), largest_, &sums_);
    int at = -1;
    for (int i = 0; i < kTried; ++i) {
      if (best_.error >= 0 && !(sums_.hrr[i] < best_.error)) continue;
      best_ = {tried.scales[i], tried.biases[i], sums_.hrr[i]};
      at = i;
    }
    return at;
  }

  float half(float value) const {
    constexpr float kLargestHalf = 65504.0f;
    return rounded_ ? half_to_float(float_to_half(std::clamp(value, -kLargestHalf, kLargestHalf))) : value;
  }

  /// The zero point that is nearest to `bias`, with this scale.
  Choice with_bias(float scale, float bias) const {
    const float zero = scale > 0 ? std::clamp(-bias / scale, 0.0f, largest_) : 0.0f;
    switch (scheme_.zero) {
      case ZeroPoint::symmetric:
        return {scale, -scale * static_cast<float>(1 << (scheme_.bits - 1)), 0};
      case ZeroPoint::integer:
        return {scale, 0.0f - scale * std::nearbyint(zero), 0};
      case ZeroPoint::real:
        break;
    }
    if (rounded_) return {scale, half(bias), 0};
    return {scale, 0.0f - scale * zero, 0};
  }
  float stored_scale(float scale) const {
    return scheme_.zero == ZeroPoint::integer ? integer_zero_scale(scale, scheme_.bits) : half(scale);
  }

  Choice from_range(const WeightRange& range, float part) const {
    if (scheme_.zero == ZeroPoint::symmetric) {
      const float size = std::max(std::fabs(range.low), std::fabs(range.high));
      return with_bias(stored_scale(part * 2 * size / largest_), 0);
    }
    // A range around zero shrinks towards zero, where most weights are; other ranges shrink towards their
    // middle.
    const bool around_zero = range.low <= 0 && range.high >= 0;
    const float low =
        around_zero ? part * range.low : range.low + (1 - part) * 0.5f * (range.high - range.low);
    const float scale = stored_scale(part * (range.high - range.low) / largest_);
    return with_bias(scale, low);
  }

  /// A better scale and bias for the codes that candidate i gives.
  Choice least_squares(const Tried& tried, int i) const {
    const float scale = tried.scales[i];
    const float bias = tried.biases[i];
    const WeightedSums& s = sums_;
    const Choice same = {scale, bias, 0};
    if (!(scale > 0) || !(s.h[i] > 0)) return same;
    if (scheme_.zero == ZeroPoint::symmetric) {
      const float v = static_cast<float>(1 << (scheme_.bits - 1));
      return with_scale(same, v, i);
    }
    const float determinant = s.h[i] * s.huu[i] - s.hu[i] * s.hu[i];
    // All weights except negligible ones have one code: no scale can be found from them.
    if (!(determinant > 1e-5f * s.h[i] * s.huu[i])) return same;
    const float better = scale + (s.h[i] * s.hru[i] - s.hu[i] * s.hr[i]) / determinant;
    if (!(better > 0)) return same;
    const float rounded = stored_scale(better);
    if (!(rounded > 0)) return same;
    const float better_bias = bias + (s.hr[i] - (rounded - scale) * s.hu[i]) / s.h[i];
    if (scheme_.zero == ZeroPoint::integer) {
      return with_scale(same, std::nearbyint(std::clamp(-better_bias / rounded, 0.0f, largest_)), i);
    }
    return with_bias(rounded, better_bias);
  }

  /// The best scale for the codes of candidate i, which is `now`, and a given zero point: the least-squares
  /// solution of w ~ s (u - z).
  Choice with_scale(const Choice& now, float zero, int i) const {
    const WeightedSums& s = sums_;
    const float wu = s.hru[i] + now.scale * s.huu[i] + now.bias * s.hu[i];
    const float w = s.hr[i] + now.scale * s.hu[i] + now.bias * s.h[i];
    const float below = s.huu[i] - 2 * zero * s.hu[i] + zero * zero * s.h[i];
    if (!(below > 0)) return now;
    const float scale = stored_scale((wu - zero * w) / below);
    if (!(scale > 0)) return now;
    return {scale, 0.0f - scale * zero, 0};
  }

  std::span<const float> weights_;
  std::span<const float> importance_;
  const Scheme& scheme_;
  bool rounded_;
  float largest_;
  WeightedSums sums_;
  Choice best_;
};

/// Second-level metadata: scales without rounding, then the step and minimum they are stored with, then
/// codes.
void fit_twice(const MatrixView& rows, const Scheme& scheme, std::span<const float> importance, Fit fit,
               GroupMetadata& m) {
  const std::int64_t group = group_of(scheme, rows.cols);
  const auto meta_group = static_cast<std::size_t>(scheme.meta_group);
  const std::size_t count = m.scales.size();
  GroupMetadata fitted;
  fitted.scales.resize(count);
  fitted.biases.resize(count);
  fitted.zero_codes.resize(count);
  std::vector<double> gained((count + meta_group - 1) / meta_group);
  const auto importance_of = [&](std::int64_t first, std::span<const float> weights) {
    return importance.subspan(static_cast<std::size_t>(first), weights.size());
  };
  for_groups(rows, group, [&](std::size_t i, std::int64_t first, std::span<const float> weights) {
    GroupFit one(weights, importance_of(first, weights), scheme, false);
    const Choice now = {m.scales[i], m.biases[i], 0};
    const Choice best = one.best({m.lows[i], m.highs[i]}, now, fit);
    fitted.scales[i] = best.scale;
    fitted.biases[i] = best.bias;
    gained[i / meta_group] += static_cast<double>(one.error(now));
  });
  store_scales_twice(scheme, fitted);
  for_groups(rows, group, [&](std::size_t i, std::int64_t first, std::span<const float> weights) {
    GroupFit one(weights, importance_of(first, weights), scheme, false);
    const std::size_t j = i / meta_group;
    const auto best =
        one.best_codes(half_to_float(fitted.scale_mins[j]), half_to_float(fitted.scale_steps[j]),
                       {fitted.scales[i], fitted.biases[i], 0});
    fitted.scale_codes[i] = static_cast<std::uint8_t>(best.scale);
    fitted.zero_codes[i] = static_cast<std::uint8_t>(best.zero);
    fitted.scales[i] = best.choice.scale;
    fitted.biases[i] = best.choice.bias;
    gained[j] -= static_cast<double>(best.choice.error);
  });
  for (std::size_t j = 0; j < gained.size(); ++j) {
    if (!(gained[j] > 0)) continue;
    m.scale_mins[j] = fitted.scale_mins[j];
    m.scale_steps[j] = fitted.scale_steps[j];
    for (std::size_t i = j * meta_group; i < std::min((j + 1) * meta_group, count); ++i) {
      m.scale_codes[i] = fitted.scale_codes[i];
      m.zero_codes[i] = fitted.zero_codes[i];
      m.scales[i] = fitted.scales[i];
      m.biases[i] = fitted.biases[i];
    }
  }
}

}  // namespace

void fit_groups(const MatrixView& rows, const Scheme& scheme, std::span<const float> importance, Fit fit,
                GroupMetadata& m) {
  if (scheme.meta_bits == 8) return fit_twice(rows, scheme, importance, fit, m);
  const std::int64_t group = group_of(scheme, rows.cols);
  for_groups(rows, group, [&](std::size_t i, std::int64_t first, std::span<const float> weights) {
    GroupFit one(weights, importance.subspan(static_cast<std::size_t>(first), weights.size()), scheme, true);
    const Choice best = one.best({m.lows[i], m.highs[i]}, {m.scales[i], m.biases[i], 0}, fit);
    m.scales[i] = best.scale;
    m.biases[i] = best.bias;
    m.half_scales[i] = float_to_half(best.scale);
    m.half_biases[i] = float_to_half(best.bias);
  });
}

}  // namespace knapsaq
