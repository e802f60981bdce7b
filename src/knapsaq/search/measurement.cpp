#include "knapsaq/search/measurement.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include <fmt/core.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

/// Mean of values given window by window, and its standard error from the spread of the windows' means;
/// infinite for a single window.
PairedDifference mean_of_windows(std::span<const double> means) {
  const auto count = static_cast<double>(means.size());
  PairedDifference result;
  for (const double mean : means) result.mean += mean / count;
  double squares = 0;
  for (const double mean : means) squares += (mean - result.mean) * (mean - result.mean);
  result.standard_error =
      means.size() < 2 ? std::numeric_limits<double>::infinity() : std::sqrt(squares / (count - 1) / count);
  return result;
}

double mean_of(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

}  // namespace

Divergence parse_divergence(std::string_view name) {
  if (name == "kl") return Divergence::kl;
  if (name == "jsd") return Divergence::jsd;
  throw UsageError(fmt::format("'{}' is not a divergence: choose kl or jsd", name));
}

std::string_view name_of(Divergence divergence) { return divergence == Divergence::kl ? "kl" : "jsd"; }

bool Measurement::finite() const { return std::isfinite(kl) && std::isfinite(perplexity()); }

double Measurement::perplexity() const { return std::exp(loss); }

Measurement join(const Measurement& first, const Measurement& then) {
  if (first.tokens == 0) return then;
  if (then.tokens == 0) return first;
  Measurement joined;
  joined.windows = first.windows + then.windows;
  joined.tokens = first.tokens + then.tokens;
  const double share = static_cast<double>(then.tokens) / static_cast<double>(joined.tokens);
  const auto mean = [&](double a, double b) { return a * (1 - share) + b * share; };
  joined.kl = mean(first.kl, then.kl);
  joined.jsd = mean(first.jsd, then.jsd);
  joined.loss = mean(first.loss, then.loss);
  joined.agreement = mean(first.agreement, then.agreement);
  // Either all tokens are known or none.
  if (!first.per_token.empty() && !then.per_token.empty()) {
    joined.per_token = first.per_token;
    joined.per_token.insert(joined.per_token.end(), then.per_token.begin(), then.per_token.end());
  }
  if (!first.window_loss.empty() && !then.window_loss.empty()) {
    joined.window_loss = first.window_loss;
    joined.window_loss.insert(joined.window_loss.end(), then.window_loss.begin(), then.window_loss.end());
  }
  return joined;
}

PairedDifference paired_difference(const Measurement& a, const Measurement& b, std::int64_t targets) {
  const auto tokens = static_cast<std::int64_t>(std::min(a.per_token.size(), b.per_token.size()));
  if (targets < 1 || tokens < targets || tokens % targets != 0)
    throw std::invalid_argument("paired_difference: the measurements know no windows of their tokens");
  std::vector<double> means;
  for (std::int64_t start = 0; start < tokens; start += targets) {
    double sum = 0;
    for (auto i = static_cast<std::size_t>(start); i < static_cast<std::size_t>(start + targets); ++i)
      sum += static_cast<double>(a.per_token[i]) - static_cast<double>(b.per_token[i]);
    means.push_back(sum / static_cast<double>(targets));
  }
  return mean_of_windows(means);
}

double loss_standard_error(const Measurement& measurement) {
  if (measurement.window_loss.size() < 2) return 0;
  const std::vector<double> means(measurement.window_loss.begin(), measurement.window_loss.end());
  return mean_of_windows(means).standard_error;
}

double standard_error(const Measurement& measurement) {
  const auto windows = static_cast<std::size_t>(std::max<std::int64_t>(measurement.windows, 0));
  if (windows < 2 || measurement.per_token.empty()) return 0;
  const std::size_t targets = measurement.per_token.size() / windows;
  std::vector<double> means;
  for (std::size_t window = 0; window < windows; ++window)
    means.push_back(mean_of(std::span(measurement.per_token).subspan(window * targets, targets)));
  return mean_of_windows(means).standard_error;
}

}  // namespace knapsaq
