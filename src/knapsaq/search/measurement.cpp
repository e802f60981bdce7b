#include "knapsaq/search/measurement.h"

namespace knapsaq {

Measurement join(const Measurement& first, const Measurement& then) {
  const auto a = static_cast<double>(first.tokens);
  const auto b = static_cast<double>(then.tokens);
  const auto mean = [&](double x, double y) { return (x * a + y * b) / (a + b); };
  Measurement result;
  result.windows = first.windows + then.windows;
  result.tokens = first.tokens + then.tokens;
  result.kl = mean(first.kl, then.kl);
  result.jsd = mean(first.jsd, then.jsd);
  result.loss = mean(first.loss, then.loss);
  result.agreement = mean(first.agreement, then.agreement);
  result.per_token = first.per_token;
  result.per_token.insert(result.per_token.end(), then.per_token.begin(), then.per_token.end());
  return result;
}

}  // namespace knapsaq
