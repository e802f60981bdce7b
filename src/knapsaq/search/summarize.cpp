#include "knapsaq/search/summarize.h"

#include <cmath>
#include <limits>

namespace knapsaq {

Measurement summarize(std::span<const RowComparison> tokens, std::int64_t windows, Divergence divergence) {
  Measurement result;
  result.windows = windows;
  result.tokens = std::ssize(tokens);
  result.per_token.reserve(tokens.size());
  double jsd = 0;
  for (const RowComparison& token : tokens) {
    result.kl += token.kl;
    jsd += token.jsd;
    result.loss += token.loss;
    result.agreement += token.agrees ? 1 : 0;
    result.per_token.push_back(divergence == Divergence::kl ? token.kl : token.jsd);
  }
  const std::size_t targets = tokens.size() / static_cast<std::size_t>(windows);
  for (std::size_t window = 0; window < static_cast<std::size_t>(windows); ++window) {
    double loss = 0;
    for (const RowComparison& token : tokens.subspan(window * targets, targets)) loss += token.loss;
    result.window_loss.push_back(static_cast<float>(loss / static_cast<double>(targets)));
  }
  const auto count = static_cast<double>(tokens.size());
  result.kl /= count;
  result.jsd = jsd / count;
  result.loss /= count;
  result.agreement /= count;
  // A model may overflow in one of these only: a comparison may hide what a sum does not.
  const bool finite = result.finite() && (divergence == Divergence::kl || std::isfinite(result.jsd));
  if (!finite) result.kl = result.jsd = result.loss = std::numeric_limits<double>::quiet_NaN();
  return result;
}

}  // namespace knapsaq
