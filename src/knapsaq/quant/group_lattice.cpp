#include "knapsaq/quant/group_lattice.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "knapsaq/base/float16.h"
#include "knapsaq/quant/half_range.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

namespace {

// Comparisons of quotients in fp64.
constexpr double kWiden = 1 + 0x1p-40;
constexpr double kNarrow = 1 - 0x1p-40;

// Between product and sum, where the reader of an affine format rounds both to the type of the weights.
// With more points, this would be as large as a step.
constexpr int kMostPointsRoundedTwice = 32;

// A share of a step, see GroupLattice.
constexpr double kMetadataRounding = 1.0 / 64;
constexpr double kSmallestHalf = 0x1p-24;

// Points that are computed for a group before some that are not exact will do.
constexpr std::int64_t kMostTried = 1 << 14;

}  // namespace

void GroupLattice::look_at(std::span<const float> weights) {
  std::uint32_t bits = 0;
  for (const float w : weights) bits |= std::bit_cast<std::uint32_t>(w);
  if ((bits & 0xFFFFu) == 0) {
    precision_ = Precision::bf16;
    return;
  }
  precision_ = std::ranges::all_of(weights, [](float w) { return half_to_float(float_to_half(w)) == w; })
                   ? Precision::fp16
                   : Precision::fp32;
}

double GroupLattice::half_ulp(double value) const {
  if (value == 0) return 0;
  const int exponent = std::ilogb(value);
  switch (precision_) {
    case Precision::bf16:
      return std::ldexp(1.0, std::max(exponent, -126) - 8);
    case Precision::fp16:
      // Subnormals are exact: all points are multiples of 2^-24, as scales and offsets in fp16 are.
      return exponent < -14 ? 0 : std::ldexp(1.0, exponent - 11);
    case Precision::fp32:
      break;
  }
  return std::ldexp(1.0, std::max(exponent, -126) - 24);
}

float GroupLattice::rounded(float value) const {
  switch (precision_) {
    case Precision::bf16:
      return bfloat16_to_float(float_to_bfloat16(value));
    case Precision::fp16:
      return half_to_float(float_to_half(value));
    case Precision::fp32:
      break;
  }
  return value;
}

/// Sorts `values_`; false if more than `most` are distinct.
bool GroupLattice::keep_distinct(int most) {
  std::ranges::sort(values_, {}, &Value::value);
  const auto rest = std::ranges::unique(values_, {}, &Value::value);
  values_.erase(rest.begin(), rest.end());
  return std::ssize(values_) <= most;
}

bool GroupLattice::take_magnitudes(std::span<const float> weights, int most) {
  values_.clear();
  for (const float w : weights) {
    const double size = std::fabs(static_cast<double>(w));
    if (size != 0) values_.push_back({size, half_ulp(size), 0});
  }
  return keep_distinct(most);
}

/// `between`: by how much the maker's sums were off before they were rounded.
bool GroupLattice::take_differences(std::span<const float> weights, int most, double between) {
  const double low = static_cast<double>(std::ranges::min(weights));
  values_.clear();
  for (const float weight : weights) {
    const double w = static_cast<double>(weight);
    if (w != low) values_.push_back({w - low, half_ulp(w) + half_ulp(low) + 2 * between, 0});
  }
  return keep_distinct(most) && !values_.empty();
}

/// Gives every value its number where the largest has `last`, from the small to the large: each narrows the
/// scales that are possible. False if there are none.
bool GroupLattice::assign(int last) {
  const Value& large = values_.back();
  least_scale_ = (large.value - large.tolerance) / last;
  most_scale_ = (large.value + large.tolerance) / last;
  if (!(least_scale_ > 0)) return false;
  for (bool is_open = true; is_open;) {
    is_open = false;
    bool is_narrower = false;
    for (Value& one : values_) {
      const double from = std::ceil((one.value - one.tolerance) / most_scale_ * kNarrow);
      const double to = std::floor((one.value + one.tolerance) / least_scale_ * kWiden);
      if (from > to || to < 1 || from > last) return false;
      if (from != to) {
        is_open = true;
        continue;
      }
      one.number = static_cast<int>(from);
      const double least = (one.value - one.tolerance) / from;
      const double greatest = (one.value + one.tolerance) / from;
      is_narrower = is_narrower || least > least_scale_ || greatest < most_scale_;
      least_scale_ = std::max(least_scale_, least);
      most_scale_ = std::min(most_scale_, greatest);
      if (least_scale_ > most_scale_ * kWiden) return false;
    }
    if (is_open && is_narrower) continue;
    if (!is_open) break;
    // What remains is large numbers whose rounding is as coarse as the points: any near one will do.
    const double scale = 0.5 * (least_scale_ + most_scale_);
    for (Value& one : values_)
      one.number = static_cast<int>(std::clamp(std::nearbyint(one.value / scale), 1.0, 1.0 * last));
    break;
  }
  return true;
}

int GroupLattice::number_of(double value) const {
  return value == 0 ? 0 : std::ranges::lower_bound(values_, value, {}, &Value::value)->number;
}

/// False if the numbers are not among those that there are.
bool GroupLattice::number_signed(std::span<const float> weights, const LatticePoints& points, int sign) {
  numbers_.clear();
  for (const float w : weights)
    numbers_.push_back((w < 0 ? -sign : sign) * number_of(std::fabs(static_cast<double>(w))));
  const auto [least, greatest] = std::ranges::minmax(numbers_);
  if (points.has_offset) return greatest - least <= points.highest - points.lowest;
  return least >= points.lowest && greatest <= points.highest;
}

/// False if the values are not further apart than they are known.
bool GroupLattice::number_differences(std::span<const float> weights) {
  for (const Value& one : values_)
    if (one.tolerance > 0.4 * least_scale_) return false;
  const double low = static_cast<double>(std::ranges::min(weights));
  numbers_.clear();
  for (const float w : weights) numbers_.push_back(number_of(static_cast<double>(w) - low));
  return true;
}

/// The distinct weights, and the scale that is nearest to all weights: of those that give them, rounded, the
/// one that the maker had is likely near it.
void GroupLattice::take_points(std::span<const float> weights, bool has_offset) {
  points_.clear();
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double w = static_cast<double>(weights[i]);
    points_.push_back({w, half_ulp(w) + slack_, numbers_[i]});
  }
  const auto count = static_cast<double>(weights.size());
  mean_weight_ = 0;
  mean_number_ = 0;
  double products = 0;
  double squares = 0;
  for (const Value& one : points_) {
    mean_weight_ += one.value / count;
    mean_number_ += one.number / count;
    products += one.value * one.number;
    squares += static_cast<double>(one.number) * one.number;
  }
  if (has_offset) {
    products -= count * mean_weight_ * mean_number_;
    squares -= count * mean_number_ * mean_number_;
  }
  fitted_scale_ = squares > 0 ? products / squares : 0.5 * (least_scale_ + most_scale_);
  std::ranges::sort(points_, {}, &Value::value);
  const auto rest = std::ranges::unique(points_, {}, &Value::value);
  points_.erase(rest.begin(), rest.end());
}

/// Keeps what fits better than what was found before; true if there is nothing left to look for.
bool GroupLattice::try_on(std::uint16_t scale, std::uint16_t offset, int shift) {
  const float s = half_to_float(scale);
  const float c = half_to_float(offset);
  const double step = std::fabs(static_cast<double>(s));
  tried_ += std::ssize(points_);
  const bool is_last = tried_ > kMostTried;
  bool is_exact = true;
  double worst = 0;
  for (const Value& one : points_) {
    const int q = one.number + shift;
    const auto w = static_cast<float>(one.value);
    const float product = s * static_cast<float>(q);
    const float point = product + c;
    if (rounded(point) == w || (slack_ != 0 && rounded(rounded(product) + c) == w)) continue;
    is_exact = false;
    const double miss = std::fabs(static_cast<double>(point) - one.value) - one.tolerance;
    if (miss > step * kMetadataRounding + kSmallestHalf * (std::abs(q) + 1)) return is_last;
    worst = std::max(worst, miss);
    if (is_found_ && worst >= found_.miss) return is_last;
  }
  is_found_ = true;
  found_.scale = scale;
  found_.offset = offset;
  found_.shift = shift;
  found_.miss = worst;
  found_.numbers = numbers_;
  return is_exact || is_last;
}

/// True if there is nothing left to look for.
bool GroupLattice::fit_scale(int sign) {
  const double fitted = std::clamp(sign * fitted_scale_, least_scale_, std::max(least_scale_, most_scale_));
  return for_halves(least_scale_, most_scale_, fitted, [&](std::uint16_t half) {
    return try_on(static_cast<std::uint16_t>(sign > 0 ? half : half ^ 0x8000u), 0, 0);
  });
}

/// True if there is nothing left to look for.
bool GroupLattice::fit_offset(const LatticePoints& points) {
  // The scales for which some offset takes every point to its weight: of any two, the difference.
  double least = 0;
  double most = std::numeric_limits<double>::infinity();
  for (std::size_t j = 0; j < points_.size(); ++j) {
    for (std::size_t i = 0; i < j; ++i) {
      const double difference = points_[j].value - points_[i].value;
      const double tolerance = points_[j].tolerance + points_[i].tolerance;
      const int apart = points_[j].number - points_[i].number;
      if (apart <= 0) return false;
      least = std::max(least, (difference - tolerance) / apart);
      most = std::min(most, (difference + tolerance) / apart);
    }
  }
  if (points_.size() == 1) {
    least = least_scale_;
    most = most_scale_;
  }
  if (least > most * kWiden) return false;
  const auto [first, last] = std::ranges::minmax(numbers_);
  const double fitted = std::clamp(fitted_scale_, least, std::max(least, most));
  return for_halves(least, most, fitted, [&](std::uint16_t half) {
    const double scale = static_cast<double>(half_to_float(half));
    for (int shift = points.lowest - first; shift <= points.highest - last; ++shift) {
      double low = -std::numeric_limits<double>::infinity();
      double high = std::numeric_limits<double>::infinity();
      for (const Value& one : points_) {
        const double rest = one.value - scale * (one.number + shift);
        low = std::max(low, rest - one.tolerance);
        high = std::min(high, rest + one.tolerance);
      }
      const double offset = mean_weight_ - scale * (mean_number_ + shift);
      const auto try_offset = [&](std::uint16_t at) { return try_on(half, at, shift); };
      if (for_halves(std::min(low, high), std::max(low, high),
                     std::clamp(offset, std::min(low, high), std::max(low, high)), try_offset))
        return true;
    }
    return false;
  });
}

/// Points with any offset: the weights' differences to the smallest of them have numbers up to `most`. Most
/// makers use all of the codes of a group, so the largest is tried first. True if there is nothing left to
/// look for.
bool GroupLattice::search_differences(std::span<const float> weights, const LatticePoints& points,
                                      double slack) {
  const int most = points.highest - points.lowest;
  slack_ = slack;
  if (!take_differences(weights, most, slack)) return false;
  for (int last = most; last >= std::ssize(values_); --last) {
    if (!assign(last) || !number_differences(weights)) continue;
    take_points(weights, points.has_offset);
    if (fit_offset(points)) return true;
  }
  return false;
}

/// Points with zero among them: so have the magnitudes, which are known better.
bool GroupLattice::search_magnitudes(std::span<const float> weights, const LatticePoints& points) {
  const int most =
      points.has_offset ? points.highest - points.lowest : std::max(-points.lowest, points.highest);
  slack_ = 0;
  if (!take_magnitudes(weights, most)) return false;
  for (int last = most; last >= std::ssize(values_); --last) {
    if (!assign(last)) continue;
    for (const int sign : {1, -1}) {
      if (!number_signed(weights, points, sign)) continue;
      take_points(weights, points.has_offset);
      if (points.has_offset ? fit_offset(points) : fit_scale(sign)) return true;
      break;
    }
  }
  return false;
}

void GroupLattice::search(std::span<const float> weights, const LatticePoints& points) {
  if (points.has_offset && search_differences(weights, points, 0)) return;
  if (search_magnitudes(weights, points) || !points.has_offset || is_found_) return;
  const auto [low, high] = std::ranges::minmax(weights);
  if (points.highest - points.lowest < kMostPointsRoundedTwice)
    search_differences(weights, points, half_ulp(static_cast<double>(high) - static_cast<double>(low)));
}

double GroupLattice::evidence(const LatticePoints& points) {
  const double step = std::fabs(static_cast<double>(half_to_float(found_.scale)));
  std::vector<double> bits;
  for (const Value& one : points_) {
    if (!points.has_offset && one.value == 0) continue;
    const double share = 2 * (one.tolerance / step + kMetadataRounding);
    bits.push_back(std::max(-std::log2(share), 0.0));
  }
  std::ranges::sort(bits, std::greater<>());
  const std::size_t chosen = std::min<std::size_t>(points.has_offset ? 2 : 1, bits.size());
  const double sum = std::accumulate(bits.begin() + static_cast<std::ptrdiff_t>(chosen), bits.end(), 0.0);
  // As many steps were tried.
  return std::max(sum - std::log2(points.highest - points.lowest + 1.0), 0.0);
}

bool GroupLattice::fit(std::span<const float> weights, const LatticePoints& points, LatticeFit& out) {
  const auto [low, high] = std::ranges::minmax(weights);
  if (std::max(-low, high) > kLargestWeight) return false;
  if (low == 0 && high == 0) {
    out.scale = 0;
    out.offset = 0;
    out.q.assign(weights.size(), 0);
    out.evidence = 0;
    return true;
  }
  look_at(weights);
  is_found_ = false;
  tried_ = 0;
  search(weights, points);
  if (!is_found_ || std::fabs(half_to_float(found_.scale)) > points.largest_scale) return false;
  numbers_ = found_.numbers;
  take_points(weights, points.has_offset);
  out.evidence = evidence(points);
  out.scale = found_.scale;
  out.offset = found_.offset;
  out.q.resize(weights.size());
  std::ranges::transform(found_.numbers, out.q.begin(),
                         [&](int q) { return static_cast<std::int16_t>(q + found_.shift); });
  return true;
}

std::vector<RealLattice> GroupLattice::find(std::span<const float> weights, std::span<const float> around,
                                            int most, bool has_offset) {
  look_at(around);
  std::vector<RealLattice> found;
  if (has_offset ? !take_differences(weights, most, 0) : !take_magnitudes(weights, most)) return found;
  if (values_.empty()) return found;
  const LatticePoints any{-most, most, false};
  for (int last = most; last >= std::ssize(values_); --last) {
    if (!assign(last)) continue;
    if (has_offset ? number_differences(weights) : number_signed(weights, any, 1))
      found.push_back({least_scale_, most_scale_, numbers_});
  }
  return found;
}

}  // namespace knapsaq
