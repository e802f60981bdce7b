#include "knapsaq/eval/kl_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

namespace knapsaq {
namespace {

/// Of ascending values.
double quantile(std::span<const float> sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(place);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  const double part = place - static_cast<double>(low);
  return (1 - part) * static_cast<double>(sorted[low]) + part * static_cast<double>(sorted[high]);
}

double mean_of(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value);
  return sum / static_cast<double>(values.size());
}

/// Of the mean of windows of equally many tokens.
double standard_error(std::span<const float> tokens, std::size_t windows, double mean) {
  if (windows < 2) return 0;
  const std::size_t each = tokens.size() / windows;
  double squares = 0;
  for (std::size_t w = 0; w < windows; ++w) {
    const double distance = mean_of(tokens.subspan(w * each, each)) - mean;
    squares += distance * distance;
  }
  const auto count = static_cast<double>(windows);
  return std::sqrt(squares / (count * (count - 1)));
}

}  // namespace

KlStatistics kl_statistics(std::span<const float> tokens, std::int64_t windows) {
  if (tokens.empty() || windows < 1 || std::ssize(tokens) % windows != 0)
    throw std::invalid_argument("kl_statistics: tokens are not whole windows");
  if (!std::ranges::all_of(tokens, [](float value) { return std::isfinite(value); })) {
    constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
    return {kNothing, kNothing, kNothing, kNothing, kNothing, kNothing};
  }
  std::vector<float> sorted(tokens.begin(), tokens.end());
  std::ranges::sort(sorted);
  const double mean = mean_of(tokens);
  return {mean,
          standard_error(tokens, static_cast<std::size_t>(windows), mean),
          quantile(sorted, 0.5),
          quantile(sorted, 0.99),
          quantile(sorted, 0.999),
          static_cast<double>(sorted.back())};
}

}  // namespace knapsaq
