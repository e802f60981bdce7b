#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "knapsaq/base/random.h"

namespace knapsaq {

/// How the next token is drawn from logits, in Transformers' order: divided by the temperature, cut to the
/// `top_k` largest, cut to the nucleus of `top_p`, drawn from what is left. (llama.cpp's default chain
/// applies the temperature last, so that its top_p looks at the untempered distribution.)
struct SamplerOptions {
  double temperature = 0;  ///< 0: the most likely token (of equal ones the lowest id), nothing is drawn
  std::int64_t top_k = 0;  ///< 0: all
  double top_p = 1;        ///< the fewest most likely tokens with at least this probability together
  std::uint64_t seed = 0;
};
/// Throws UsageError for a negative or infinite temperature, a negative top_k, a top_p outside (0, 1].
void check(const SamplerOptions& options);

/// Draws token after token. The same logits, options and seed give the same tokens: sums are in double, in an
/// order that the logits fix.
class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);

  /// An index into `logits`, at least one. Of tokens with equal logits, lower ids count as more likely.
  /// Throws NotFiniteError for a NaN or an infinity, except minus infinity, which is never drawn, beside
  /// finite ones.
  std::int32_t draw(std::span<const float> logits);

 private:
  /// Sorts the `count` most likely of candidates_ to its front.
  void select(std::span<const float> logits, std::size_t count);
  /// Of candidates_ the fewest that have options_.top_p of the probability.
  void keep_nucleus(std::span<const float> logits);
  /// weights_ of candidates_.
  void weigh(std::span<const float> logits);
  /// Probability times a constant.
  double weight(float logit) const;

  SamplerOptions options_;
  Random random_;
  double largest_ = 0;                    ///< logit
  std::vector<std::int32_t> candidates_;  ///< what may be drawn
  std::vector<double> weights_;           ///< of the candidates
};

}  // namespace knapsaq
