#include "knapsaq/model/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

[[noreturn]] void refuse_logits() {
  throw InputError(
      "the model's logits hold NaN or infinity: the model is broken, or needs --activations fp32");
}

/// The largest logit's first place.
std::size_t most_likely(std::span<const float> logits) {
  std::size_t best = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    // Comparisons with NaN are false: it must be looked for.
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

std::int32_t Sampler::draw(std::span<const float> logits) {
  const std::size_t best = most_likely(logits);
  if (options_.temperature == 0) return static_cast<std::int32_t>(best);
  const double largest = static_cast<double>(logits[best]);
  const auto weight = [&](std::size_t i) {
    return std::exp((static_cast<double>(logits[i]) - largest) / options_.temperature);
  };

  const std::size_t all = logits.size();
  const bool cut_k = options_.top_k > 0 && static_cast<std::uint64_t>(options_.top_k) < all;
  const bool cut_p = options_.top_p < 1;
  if (!cut_k && !cut_p) {  // in the order of ids
    candidates_.clear();
    weights_.resize(all);
    for (std::size_t i = 0; i < all; ++i) weights_[i] = weight(i);
  } else {
    candidates_.resize(all);
    std::iota(candidates_.begin(), candidates_.end(), 0);
    std::size_t kept = cut_k ? static_cast<std::size_t>(options_.top_k) : all;
    if (!cut_p) {
      select(logits, kept);
    } else {
      // Probabilities are shares of what top_k left.
      double total = 0;
      if (cut_k) {
        select(logits, kept);
        candidates_.resize(kept);
        for (const std::int32_t id : candidates_) total += weight(static_cast<std::size_t>(id));
      } else {
        for (std::size_t i = 0; i < all; ++i) total += weight(i);
      }
      // A nucleus is mostly small. It is looked for among the 256 most likely, then among eight times as
      // many: sorting 128 thousand would take longer than a small model's forward pass.
      std::size_t sorted = std::min<std::size_t>(256, kept);
      for (;;) {
        if (!cut_k) select(logits, sorted);
        double sum = 0;
        std::size_t i = 0;
        while (i < sorted && sum < options_.top_p * total)
          sum += weight(static_cast<std::size_t>(candidates_[i++]));
        if (sum >= options_.top_p * total || sorted == kept) {
          kept = std::max<std::size_t>(i, 1);
          break;
        }
        sorted = std::min(8 * sorted, kept);
      }
    }
    candidates_.resize(kept);
    weights_.clear();
    for (const std::int32_t id : candidates_) weights_.push_back(weight(static_cast<std::size_t>(id)));
  }

  double rest = random_.uniform() * std::accumulate(weights_.begin(), weights_.end(), 0.0);
  std::size_t drawn = 0;  // the last with any weight: where rounding lets the walk pass the end
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] == 0) continue;
    drawn = i;
    rest -= weights_[i];
    if (rest < 0) break;
  }
  return candidates_.empty() ? static_cast<std::int32_t>(drawn) : candidates_[drawn];
}

}  // namespace knapsaq
