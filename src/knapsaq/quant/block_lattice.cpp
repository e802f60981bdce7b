#include "knapsaq/quant/block_lattice.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>

#include "knapsaq/base/float16.h"
#include "knapsaq/quant/half_range.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

namespace {

constexpr double kWiden = 1 + 0x1p-20;  // products of scales are rounded to fp32

constexpr int kMostScale = 128;

// Ways to make sub-blocks that are looked at for a block: far more than a block of many codes has, fewer than
// one of equal weights.
constexpr int kMostTried = 1 << 17;

/// As an integer; what is beyond any scale stays there.
int whole(double value) { return static_cast<int>(std::clamp(value, -1.0, 1e6)); }

double width(const RealLattice& lattice) {
  return (lattice.most_scale - lattice.least_scale) / lattice.least_scale;
}

}  // namespace

bool BlockLattice::fit(std::span<const float> weights, GgmlBlock& out) {
  weights_ = weights;
  const auto [low, high] = std::ranges::minmax(weights);
  if (std::max(-low, high) > kLargestWeight) return false;
  const std::size_t subs = weights.size() / static_cast<std::size_t>(rule_.sub_block);
  block_ = {};
  evidence_ = 0;
  tried_ = 0;
  if (low == 0 && high == 0) {
    out = block_;
    return true;
  }
  lattices_.assign(subs, {});
  options_.assign(subs, {});
  // The sub-block whose scale is known best: with the fewest lattices, then the narrowest.
  std::size_t best = subs;
  const int most = rule_.has_min ? rule_.highest : -rule_.lowest;
  for (std::size_t sub = 0; sub < subs; ++sub) {
    const auto [least, greatest] = std::ranges::minmax(sub_block(sub));
    if (rule_.has_min ? least == greatest : least == 0 && greatest == 0) continue;  // with a scale of 0
    std::vector<RealLattice>& found = lattices_[sub];
    found = group_.find(sub_block(sub), weights, most, rule_.has_min);
    if (found.empty()) return false;
    if (best == subs || found.size() < lattices_[best].size() ||
        (found.size() == lattices_[best].size() && width(found.front()) < width(lattices_[best].front())))
      best = sub;
  }
  order_.resize(subs);
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  std::ranges::stable_partition(order_, [&](std::size_t sub) { return !lattices_[sub].empty(); });
  if (best == subs) return false;  // constants, and nothing to find a scale by
  const int largest = std::max(rule_.highest_scale, -rule_.lowest_scale);
  for (const RealLattice& lattice : lattices_[best]) {
    for (int scale = largest; scale > 0 && tried_ < kMostTried; --scale) {
      const bool is_found =
          for_halves(lattice.least_scale / scale, lattice.most_scale / scale, [&](std::uint16_t d) {
            return try_scale(d) || (!rule_.has_min && try_scale(static_cast<std::uint16_t>(d ^ 0x8000u)));
          });
      if (!is_found) continue;
      // Each further distinct weight of a sub-block would be anywhere in a step; two bits each at the least.
      for (std::size_t sub = 0; sub < subs; ++sub) {
        std::vector<float> distinct(sub_block(sub).begin(), sub_block(sub).end());
        std::ranges::sort(distinct);
        const auto rest = std::ranges::unique(distinct);
        evidence_ += std::max(2.0 * static_cast<double>(rest.begin() - distinct.begin() - 3), 0.0);
      }
      out = block_;
      return true;
    }
  }
  return false;
}

/// Whether the sub-block comes out of it to the bit.
bool BlockLattice::gives(std::size_t sub, const Option& option, float d, float d_min, int min) const {
  // As GgmlMatrix::dequantize_row().
  const float scale = d * rule_.factor(option.scale);
  const float minimum = d_min * static_cast<float>(min);
  const std::span<const float> weights = sub_block(sub);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const int number = option.lattice == nullptr ? 0 : option.lattice->numbers[i];
    const auto q = static_cast<float>(option.sign * number + option.shift);
    const float weight = rule_.has_min ? scale * q - minimum : scale * q;
    if (group_.rounded(weight) != weights[i]) return false;
  }
  return true;
}

void BlockLattice::keep(std::size_t sub, const Option& option, int min) {
  block_.scales[sub] = static_cast<std::int8_t>(option.scale);
  block_.mins[sub] = static_cast<std::int8_t>(min);
  const auto size = static_cast<std::size_t>(rule_.sub_block);
  for (std::size_t i = 0; i < size; ++i) {
    const int number = option.lattice == nullptr ? 0 : option.lattice->numbers[i];
    block_.codes[sub * size + i] = static_cast<std::int8_t>(option.sign * number + option.shift);
  }
}

/// What can make a sub-block with this d: scales, signs, and with minima shifts and what they leave to those.
void BlockLattice::add_options(std::size_t sub, float d, std::vector<Option>& options) const {
  if (lattices_[sub].empty()) {
    // Equal weights: one code, of any scale.
    const auto w = static_cast<double>(sub_block(sub).front());
    const double tolerance = group_.half_ulp(w);
    for (int scale = 0; scale <= (w == 0 || !rule_.has_min ? 0 : rule_.highest_scale); ++scale) {
      for (int q = std::min(scale, 1); q <= (scale == 0 ? 0 : rule_.highest); ++q) {
        const double rest = static_cast<double>(d) * scale * q - w;
        if (rest + tolerance < 0) continue;
        options.push_back(
            {.scale = scale, .shift = q, .least_min = rest - tolerance, .most_min = rest + tolerance});
      }
    }
    return;
  }
  const double step = std::fabs(static_cast<double>(d));
  for (const RealLattice& lattice : lattices_[sub]) {
    const auto [least, greatest] = std::ranges::minmax(lattice.numbers);
    const double first = std::ceil(lattice.least_scale / step / kWiden);
    const double last = std::floor(lattice.most_scale / step * kWiden);
    for (int scale = whole(std::max(first, 1.0)); scale <= std::min(whole(last), kMostScale); ++scale) {
      if (!rule_.has_min) {
        for (const int sign : {1, -1}) {
          const int low = sign > 0 ? least : -greatest;
          const int high = sign > 0 ? greatest : -least;
          const int stored = (d < 0 ? -sign : sign) * scale;
          if (low < rule_.lowest || high > rule_.highest || stored < rule_.lowest_scale ||
              stored > rule_.highest_scale)
            continue;
          options.push_back({.scale = stored, .sign = sign, .lattice = &lattice});
        }
        continue;
      }
      if (scale > rule_.highest_scale) break;
      for (int shift = 0; shift <= rule_.highest - greatest; ++shift) {
        Option option{.scale = scale, .shift = shift, .lattice = &lattice};
        option.least_min = -std::numeric_limits<double>::infinity();
        option.most_min = std::numeric_limits<double>::infinity();
        const std::span<const float> weights = sub_block(sub);
        for (std::size_t i = 0; i < weights.size(); ++i) {
          const auto w = static_cast<double>(weights[i]);
          const double rest = step * scale * (lattice.numbers[i] + shift) - w;
          option.least_min = std::max(option.least_min, rest - group_.half_ulp(w));
          option.most_min = std::min(option.most_min, rest + group_.half_ulp(w));
        }
        if (option.least_min <= option.most_min * (option.most_min > 0 ? kWiden : 1 / kWiden))
          options.push_back(option);
      }
    }
  }
}

bool BlockLattice::try_scale(std::uint16_t d) {
  const float step = half_to_float(d);
  if (step == 0) return false;
  for (const std::size_t sub : order_) {
    options_[sub].clear();
    add_options(sub, step, options_[sub]);
    tried_ += static_cast<int>(options_[sub].size());
    if (options_[sub].empty()) return false;
    if (rule_.has_min) continue;
    const auto option =
        std::ranges::find_if(options_[sub], [&](const Option& one) { return gives(sub, one, step, 0, 0); });
    if (option == options_[sub].end()) return false;
    keep(sub, *option, 0);
  }
  block_.d = d;
  return !rule_.has_min || take_mins();
}

bool BlockLattice::take_mins() {
  // The sub-block whose minimum is known best; those that may be 0 tell nothing.
  std::size_t best = options_.size();
  double narrowest = std::numeric_limits<double>::infinity();
  for (std::size_t sub = 0; sub < options_.size(); ++sub) {
    const Option& first = options_[sub].front();
    if (options_[sub].size() > 1 || first.least_min <= 0) continue;
    const double relative = first.most_min / first.least_min;
    if (relative >= narrowest) continue;
    narrowest = relative;
    best = sub;
  }
  if (best == options_.size()) {
    // All may be 0, or every sub-block could be made in several ways: of one that must have a minimum, any.
    if (try_min(0)) return true;
    best = 0;
    for (std::size_t sub = 1; sub < options_.size(); ++sub)
      if (options_[sub].front().most_min > options_[best].front().most_min) best = sub;
  }
  for (const Option& option : options_[best]) {
    if (option.most_min <= 0) continue;
    for (int min = rule_.highest_scale; min > 0 && tried_ < kMostTried; --min) {
      if (for_halves(std::max(option.least_min, 0.0) / min, option.most_min / min,
                     [&](std::uint16_t d_min) { return try_min(d_min); }))
        return true;
    }
  }
  return false;
}

bool BlockLattice::try_min(std::uint16_t d_min) {
  const float unit = half_to_float(d_min);
  const float d = half_to_float(block_.d);
  for (const std::size_t sub : order_) {
    const auto take = [&](const Option& option) {
      if (++tried_ > kMostTried) return false;
      int first = 0;
      int last = 0;
      if (unit > 0) {
        const double step = static_cast<double>(unit);
        first = whole(std::ceil(std::max(option.least_min, 0.0) / step / kWiden));
        last = std::min(whole(std::floor(option.most_min / step * kWiden)), rule_.highest_scale);
      }
      for (int min = first; min <= last; ++min) {
        if (!gives(sub, option, d, unit, min)) continue;
        keep(sub, option, min);
        return true;
      }
      return false;
    };
    if (std::ranges::none_of(options_[sub], take)) return false;
  }
  block_.m = d_min;
  return true;
}

}  // namespace knapsaq
