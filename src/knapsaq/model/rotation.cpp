#include "knapsaq/model/rotation.h"

#include <cmath>
#include <numbers>

namespace knapsaq {
namespace {

/// Of pair number `pair`.
double rescale(double frequency, const RopeScaling& rope, std::size_t pair) {
  switch (rope.kind) {
    case RopeScaling::Kind::none:
      return frequency;
    case RopeScaling::Kind::linear:
      return frequency / rope.factor;
    case RopeScaling::Kind::frequency_factors:
      return frequency / rope.frequency_factors[pair];
    case RopeScaling::Kind::llama3:
      break;
  }
  const double wavelength = 2 * std::numbers::pi / frequency;
  const auto original = static_cast<double>(rope.original_max_positions);
  if (wavelength > original / rope.low_freq_factor) return frequency / rope.factor;
  if (wavelength < original / rope.high_freq_factor) return frequency;
  const double smooth = (original / wavelength - rope.low_freq_factor) /
                        (static_cast<double>(rope.high_freq_factor) - rope.low_freq_factor);
  return (1 - smooth) * frequency / rope.factor + smooth * frequency;
}

}  // namespace

std::vector<float> rotary_frequencies(const ModelConfig& config) {
  std::vector<float> frequencies(static_cast<std::size_t>(config.head_dim / 2));
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
    frequencies[i] = static_cast<float>(rescale(std::pow(config.rope_theta, -exponent), config.rope, i));
  }
  return frequencies;
}

RotationTables rotation_tables(const ModelConfig& config, std::int64_t length) {
  const std::vector<float> frequencies = rotary_frequencies(config);
  RotationTables tables;
  tables.cosines.reserve(static_cast<std::size_t>(length) * frequencies.size());
  tables.sines.reserve(static_cast<std::size_t>(length) * frequencies.size());
  for (std::int64_t position = 0; position < length; ++position) {
    for (const float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      tables.cosines.push_back(static_cast<float>(std::cos(static_cast<double>(angle))));
      tables.sines.push_back(static_cast<float>(std::sin(static_cast<double>(angle))));
    }
  }
  return tables;
}

}  // namespace knapsaq
