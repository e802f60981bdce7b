#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "knapsaq/base/random.h"
#include "knapsaq/calib/input_statistics.h"

namespace knapsaq {

/// Statistics of random inputs that are correlated as a model's are: each is a mix of `width / 4` hidden
/// variables and noise of its own, at scales that differ by up to a factor of ten.
inline InputStatistics made_inputs(std::int64_t width, std::int64_t tokens, std::uint64_t seed) {
  Random random(seed);
  const std::int64_t hidden = std::max<std::int64_t>(width / 4, 1);
  std::vector<float> mix(static_cast<std::size_t>(hidden * width));
  for (float& x : mix) x = static_cast<float>(random.normal() / std::sqrt(static_cast<double>(hidden)));
  std::vector<double> size(static_cast<std::size_t>(width));
  for (double& x : size) x = std::pow(10.0, random.uniform() - 0.5);
  std::vector<double> moment(static_cast<std::size_t>(width * width));
  std::vector<double> x(static_cast<std::size_t>(width));
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (double& value : x) value = 0.3 * random.normal();
    for (std::int64_t h = 0; h < hidden; ++h) {
      const double value = random.normal();
      for (std::int64_t k = 0; k < width; ++k) x[k] += value * static_cast<double>(mix[h * width + k]);
    }
    for (std::int64_t k = 0; k < width; ++k) x[k] *= size[k];
    for (std::int64_t j = 0; j < width; ++j) {
      for (std::int64_t k = 0; k < width; ++k) moment[j * width + k] += x[j] * x[k];
    }
  }
  InputStatistics inputs;
  inputs.name = "made.input";
  inputs.width = width;
  inputs.tokens = static_cast<std::uint64_t>(tokens);
  for (const double m : moment)
    inputs.second_moment.push_back(static_cast<float>(m / static_cast<double>(tokens)));
  for (std::int64_t k = 0; k < width; ++k)
    inputs.mean_square.push_back(inputs.second_moment[static_cast<std::size_t>(k * width + k)]);
  return inputs;
}

}  // namespace knapsaq
