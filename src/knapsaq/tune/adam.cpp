#include "knapsaq/tune/adam.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>

#include "knapsaq/base/threads.h"

namespace knapsaq {
namespace {

constexpr double kFirst = 0.9;
constexpr double kSecond = 0.999;
constexpr float kEpsilon = 1e-8f;

}  // namespace

void Adam::step(std::span<const float> gradient, float rate, std::span<float> parameters) {
  if (gradient.size() != first.size() || parameters.size() != first.size())
    throw std::invalid_argument("Adam: another number of parameters");
  ++steps;
  const auto first_missing = static_cast<float>(1 - std::pow(kFirst, static_cast<double>(steps)));
  const auto second_missing = static_cast<float>(1 - std::pow(kSecond, static_cast<double>(steps)));
  constexpr std::size_t kPiece = 1 << 14;  // large enough that handing it out costs nothing
  parallel_for((first.size() + kPiece - 1) / kPiece, [&](std::size_t piece) {
    for (std::size_t i = piece * kPiece; i < std::min((piece + 1) * kPiece, first.size()); ++i) {
      const float g = gradient[i];
      first[i] += static_cast<float>(1 - kFirst) * (g - first[i]);
      second[i] += static_cast<float>(1 - kSecond) * (g * g - second[i]);
      parameters[i] -= rate * (first[i] / first_missing) / (std::sqrt(second[i] / second_missing) + kEpsilon);
    }
  });
}

float cosine_rate(float rate, std::int64_t step, std::int64_t steps) {
  const double part = static_cast<double>(step) / static_cast<double>(steps);
  return static_cast<float>(static_cast<double>(rate) * (1 + std::cos(std::numbers::pi * part)) / 2);
}

}  // namespace knapsaq
