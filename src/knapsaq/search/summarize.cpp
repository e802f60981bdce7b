#include "knapsaq/search/summarize.h"

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
  const auto count = static_cast<double>(tokens.size());
  result.kl /= count;
  result.jsd = jsd / count;
  result.loss /= count;
  result.agreement /= count;
  return result;
}

}  // namespace knapsaq
