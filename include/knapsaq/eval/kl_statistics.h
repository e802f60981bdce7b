#pragma once

#include <cstdint>
#include <span>

namespace knapsaq {

/// KL(reference || model) of next-token distributions over the scored tokens of a text, in nats.
struct KlStatistics {
  double mean = 0;
  /// Of the mean, from the spread between windows: adjacent tokens are not independent. (llama-perplexity
  /// takes tokens for independent, and says less.) 0 for a single window.
  double standard_error = 0;
  double median = 0;
  double quantile_99 = 0;    ///< 99 % of the tokens are at most this far
  double quantile_99_9 = 0;  ///< 99.9 %
  double largest = 0;
};

/// `tokens`: one value for every scored token, window after window, equally many for each of `windows`.
/// Quantiles are linear between neighbours, as those of NumPy and llama-perplexity. All are NaN if a value is
/// not finite. Throws std::invalid_argument for no tokens, and for tokens that are not whole windows.
KlStatistics kl_statistics(std::span<const float> tokens, std::int64_t windows);

}  // namespace knapsaq
