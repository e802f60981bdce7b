#include "knapsaq/model/rotation.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace knapsaq {
namespace {

double llama3(double frequency, const RopeScaling& rope) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  const auto original = static_cast<double>(rope.original_max_positions);
  if (wavelength > original / rope.low_freq_factor) return frequency / rope.factor;
  if (wavelength < original / rope.high_freq_factor) return frequency;
  const double smooth = (original / wavelength - rope.low_freq_factor) /
                        (static_cast<double>(rope.high_freq_factor) - rope.low_freq_factor);
  return (1 - smooth) * frequency / rope.factor + smooth * frequency;
}

/// The pairs between which yarn blends.
struct Ramp {
  double low;
  double high;
  /// Share of the divided frequency in that of a pair.
  double at(double pair) const { return std::clamp((pair - low) / (high - low), 0.0, 1.0); }
};

Ramp yarn_ramp(const RopeScaling& rope, double theta, double rotated) {
  // theta^(-2 pair / rotated) * original = 2 pi turns, for the pair.
  const auto pair_of = [&](double turns) {
    const double original = static_cast<double>(rope.original_max_positions);
    return rotated * std::log(original / (turns * 2 * std::numbers::pi)) / (2 * std::log(theta));
  };
  double low = pair_of(rope.beta_fast);
  double high = pair_of(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, rotated - 1);
  return {low, low == high ? high + 0.001 : high};
}

/// theta of a text that is longer than the model was trained for.
double dynamic_theta(const RopeScaling& rope, double theta, double rotated, std::int64_t text) {
  if (text <= rope.original_max_positions || rotated <= 2) return theta;
  const double longer = static_cast<double>(text) / static_cast<double>(rope.original_max_positions);
  const double factor = rope.factor;
  return theta * std::pow(factor * longer - (factor - 1), rotated / (rotated - 2));
}

}  // namespace

std::vector<float> rotary_frequencies(const RopeScaling& scaling, float theta, std::int64_t rotated,
                                      std::int64_t text) {
  using Kind = RopeScaling::Kind;
  const auto width = static_cast<double>(rotated);
  const double base =
      scaling.kind == Kind::dynamic ? dynamic_theta(scaling, theta, width, text) : static_cast<double>(theta);
  const Ramp ramp = scaling.kind == Kind::yarn ? yarn_ramp(scaling, base, width) : Ramp{0, 1};
  const bool is_long = text > scaling.original_max_positions;
  const double turning = std::floor(static_cast<double>(scaling.proportion) * width / 2);

  std::vector<float> frequencies(static_cast<std::size_t>(rotated / 2));
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const auto pair = static_cast<double>(i);
    double frequency = std::pow(base, -2 * pair / width);
    switch (scaling.kind) {
      case Kind::none:
      case Kind::dynamic:
        break;
      case Kind::linear:
        frequency /= scaling.factor;
        break;
      case Kind::frequency_factors:
        frequency /= scaling.frequency_factors[i];
        break;
      case Kind::llama3:
        frequency = llama3(frequency, scaling);
        break;
      case Kind::yarn:
        frequency *= 1 - ramp.at(pair) * (1 - 1 / static_cast<double>(scaling.factor));
        break;
      case Kind::longrope:
        frequency /= (is_long ? scaling.long_factor : scaling.short_factor)[i];
        break;
      case Kind::proportional:
        frequency = pair < turning ? frequency / scaling.factor : 0;
        break;
    }
    frequencies[i] = static_cast<float>(frequency);
  }
  return frequencies;
}

float rotary_attention_factor(const RopeScaling& scaling) {
  using Kind = RopeScaling::Kind;
  if (scaling.kind != Kind::yarn && scaling.kind != Kind::longrope) return 1;
  if (scaling.attention_factor != 0) return scaling.attention_factor;
  if (scaling.factor <= 1) return 1;
  const double log_factor = std::log(static_cast<double>(scaling.factor));
  if (scaling.kind == Kind::longrope)
    return static_cast<float>(
        std::sqrt(1 + log_factor / std::log(static_cast<double>(scaling.original_max_positions))));
  const auto weighted = [&](double weight) { return 0.1 * weight * log_factor + 1; };
  if (scaling.mscale != 0 && scaling.mscale_all_dim != 0)
    return static_cast<float>(weighted(scaling.mscale) / weighted(scaling.mscale_all_dim));
  return static_cast<float>(weighted(1));
}

std::int64_t rotation_text(const RopeScaling& scaling, std::int64_t text) {
  switch (scaling.kind) {
    case RopeScaling::Kind::dynamic:
      return std::max(text, scaling.original_max_positions);
    case RopeScaling::Kind::longrope:
      return text > scaling.original_max_positions ? 1 : 0;
    default:
      return 0;
  }
}

RotationTables rotation_tables(const RopeScaling& scaling, float theta, std::int64_t rotated,
                               std::int64_t length, std::int64_t text) {
  const std::vector<float> frequencies = rotary_frequencies(scaling, theta, rotated, text);
  const double factor = rotary_attention_factor(scaling);
  RotationTables tables;
  tables.cosines.reserve(static_cast<std::size_t>(length) * frequencies.size());
  tables.sines.reserve(static_cast<std::size_t>(length) * frequencies.size());
  for (std::int64_t position = 0; position < length; ++position) {
    for (const float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      tables.cosines.push_back(static_cast<float>(factor * std::cos(static_cast<double>(angle))));
      tables.sines.push_back(static_cast<float>(factor * std::sin(static_cast<double>(angle))));
    }
  }
  return tables;
}

std::vector<float> query_scales(const QueryScaling& scaling, std::int64_t length) {
  std::vector<float> scales;
  scales.reserve(static_cast<std::size_t>(length));
  for (std::int64_t position = 0; position < length; ++position) {
    const auto lengths = static_cast<double>(position / scaling.length);
    scales.push_back(static_cast<float>(1 + static_cast<double>(scaling.beta) * std::log(1 + lengths)));
  }
  return scales;
}

}  // namespace knapsaq
