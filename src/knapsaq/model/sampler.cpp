#include "knapsaq/model/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/not_finite_error.h"

namespace knapsaq {
namespace {

[[noreturn]] void refuse_logits() {
  throw NotFiniteError("the model's logits hold NaN or infinity: a weight is broken or too large");
}

/// The first position of the largest logit.
std::size_t most_likely(std::span<const float> logits) {
  std::size_t best = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    // Comparisons with NaN are false, so it must be searched for.
    if (std::isnan(logits[i])) refuse_logits();
    if (logits[i] > logits[best]) best = i;
  }
  if (!std::isfinite(logits[best])) refuse_logits();
  return best;
}

}  // namespace

void check(const SamplerOptions& options) {
  if (!std::isfinite(options.temperature) || options.temperature < 0)
    throw UsageError(
        fmt::format("the temperature has to be 0 (greedy) or more, not {}", options.temperature));
  if (options.top_k < 0)
    throw UsageError(fmt::format("top-k has to be 0 (all) or more, not {}", options.top_k));
  if (!(options.top_p > 0 && options.top_p <= 1))
    throw UsageError(fmt::format("top-p has to be above 0 and at most 1 (all), not {}", options.top_p));
}

Sampler::Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) { check(options); }

void Sampler::select(std::span<const float> logits, std::size_t count) {
  const auto more_likely = [&](std::int32_t a, std::int32_t b) {
    const float x = logits[static_cast<std::size_t>(a)];
    const float y = logits[static_cast<std::size_t>(b)];
    return x > y || (x == y && a < b);
  };
  const auto middle = candidates_.begin() + static_cast<std::ptrdiff_t>(count);
  if (middle != candidates_.end())
    std::nth_element(candidates_.begin(), middle, candidates_.end(), more_likely);
  std::sort(candidates_.begin(), middle, more_likely);
}

double Sampler::weight(float logit) const {
  return std::exp((static_cast<double>(logit) - largest_) / options_.temperature);
}

void Sampler::weigh(std::span<const float> logits) {
  weights_.clear();
  for (const std::int32_t id : candidates_) weights_.push_back(weight(logits[static_cast<std::size_t>(id)]));
}

void Sampler::keep_nucleus(std::span<const float> logits) {
  const double total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  const double wanted = options_.top_p * total;
  // All candidates below this together have less than the probability that may be dropped: none of them is
  // needed.
  const double least = (total - wanted) / static_cast<double>(candidates_.size());
  std::size_t left = 0;
  for (std::size_t i = 0; i < candidates_.size(); ++i)
    if (weights_[i] >= least) candidates_[left++] = candidates_[i];
  candidates_.resize(left);
  // A nucleus is usually small. It is searched for among the 256 most likely candidates, then among eight
  // times as many, because sorting a hundred thousand takes as long as a small model's forward pass.
  for (std::size_t sorted = std::min<std::size_t>(256, left);; sorted = std::min(8 * sorted, left)) {
    select(logits, sorted);
    double sum = 0;
    std::size_t kept = 0;
    while (kept < sorted && sum < wanted)
      sum += weight(logits[static_cast<std::size_t>(candidates_[kept++])]);
    if (sum < wanted && sorted < left) continue;
    candidates_.resize(std::max<std::size_t>(kept, 1));
    return weigh(logits);
  }
}

std::int32_t Sampler::draw(std::span<const float> logits) {
  const std::size_t best = most_likely(logits);
  if (options_.temperature == 0) return static_cast<std::int32_t>(best);
  largest_ = static_cast<double>(logits[best]);
  candidates_.resize(logits.size());
  std::iota(candidates_.begin(), candidates_.end(), 0);
  if (options_.top_k > 0 && static_cast<std::uint64_t>(options_.top_k) < logits.size()) {
    select(logits, static_cast<std::size_t>(options_.top_k));
    candidates_.resize(static_cast<std::size_t>(options_.top_k));
  }
  weigh(logits);
  if (options_.top_p < 1) keep_nucleus(logits);

  double rest = random_.uniform() * std::accumulate(weights_.begin(), weights_.end(), 0.0);
  std::size_t drawn = 0;  // the last one with any weight, if rounding lets the loop pass the end
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] == 0) continue;
    drawn = i;
    rest -= weights_[i];
    if (rest < 0) break;
  }
  return candidates_[drawn];
}

}  // namespace knapsaq
