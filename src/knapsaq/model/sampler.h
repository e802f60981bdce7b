#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "knapsaq/base/random.h"

namespace knapsaq {

/// How the next token is drawn from logits, in Transformers' order: logits are divided by the temperature,
/// cut to the `top_k` largest, cut to the nucleus of `top_p`, and one of the rest is drawn. (llama.cpp's
/// default chain applies the temperature last, so its top_p uses the distribution without temperature.)
struct SamplerOptions {
  double temperature = 0;  ///< 0: the most likely token (of equal ones the lowest id), without drawing
  std::int64_t top_k = 0;  ///< 0: all
  double top_p = 1;        ///< the fewest most likely tokens whose probabilities sum to at least this
  std::uint64_t seed = 0;
};
/// Throws UsageError for a negative or infinite temperature, a negative top_k, a top_p outside (0, 1].
void check(const SamplerOptions& options);

/// Draws token after token. The same logits, options and seed give the same tokens: sums are in double, in an
/// order that the logits determine.
class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);

  /// An index into `logits`, which has at least one. Of tokens with equal logits, lower ids count as more
  /// likely. Throws NotFiniteError for NaN and infinity; minus infinity, which is never drawn, is allowed
  /// beside finite logits.
  std::int32_t draw(std::span<const float> logits);

 private:
  /// Sorts the `count` most likely of candidates_ to its front.
  void select(std::span<const float> logits, std::size_t count);
  /// The fewest of candidates_ that have options_.top_p of the probability.
  void keep_nucleus(std::span<const float> logits);
  /// weights_ of candidates_.
  void weigh(std::span<const float> logits);
  /// Probability times a constant.
  double weight(float logit) const;

  SamplerOptions options_;
  Random random_;
  double largest_ = 0;                    ///< logit
  std::vector<std::int32_t> candidates_;  ///< the tokens that may be drawn
  std::vector<double> weights_;           ///< of the candidates
};

}  // namespace knapsaq
