#include "knapsaq/eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/core.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/not_finite_error.h"

namespace knapsaq {
namespace {

// Tokens per pass: enough rows for full-speed products and work for all threads, few enough that hidden
// states stay small and progress is reported several times a second on small models.
constexpr std::int64_t kBatchTokens = 4096;

}  // namespace

Perplexity perplexity(std::span<const std::int32_t> tokens, const WindowOptions& options,
                      std::optional<std::int32_t> bos, const LossFunction& losses, Progress& progress) {
  const std::vector<Window> windows = plan_windows(std::ssize(tokens), options);
  Perplexity result;
  result.windows = std::ssize(windows);

  std::int64_t total = 0;
  for (const Window& window : windows) total += window.length;
  ProgressScope scope(progress, "scoring", static_cast<std::uint64_t>(total), "tokens");

  std::vector<double> means;
  std::vector<std::int32_t> batch;
  std::vector<float> batch_losses;
  std::vector<double> weights;
  for (std::size_t first = 0; first < windows.size();) {
    check_cancelled();
    // Consecutive windows of the same length go through the model together.
    const std::int64_t length = windows[first].length;
    std::size_t last = first + 1;
    while (last < windows.size() && windows[last].length == length &&
           static_cast<std::int64_t>(last + 1 - first) * length <= kBatchTokens)
      ++last;

    batch.clear();
    for (std::size_t w = first; w < last; ++w) {
      const auto part = tokens.subspan(windows[w].begin, length);
      batch.insert(batch.end(), part.begin(), part.end());
      if (options.protocol == Protocol::llama && bos) batch[batch.size() - part.size()] = *bos;
    }
    const auto count = static_cast<std::int64_t>(last - first);
    batch_losses.resize(static_cast<std::size_t>(count * (length - 1)));
    losses(batch, count, length, batch_losses);

    for (std::size_t w = first; w < last; ++w) {
      const float* row = batch_losses.data() + static_cast<std::int64_t>(w - first) * (length - 1);
      double sum = 0;
      for (std::int64_t target = windows[w].first_target; target < length; ++target) sum += row[target - 1];
      means.push_back(sum / static_cast<double>(windows[w].targets()));
      weights.push_back(windows[w].weight);
      result.tokens += windows[w].targets();
    }
    scope.advance(static_cast<std::uint64_t>(count * length));
    first = last;
  }

  double weight = 0;
  for (std::size_t w = 0; w < means.size(); ++w) {
    result.nll += means[w] * weights[w];
    weight += weights[w];
  }
  result.nll /= weight;
  result.perplexity = std::exp(result.nll);
  // Decoder::losses() has already reported losses that are not finite.
  if (!std::isfinite(result.perplexity))
    throw NotFiniteError(
        fmt::format("the model's loss on this text is {} nats a token, which no perplexity can be "
                    "told of: it predicts nothing; the weights, above all of the output head, are "
                    "broken or too large",
                    result.nll));
  if (means.size() > 1) {
    double squares = 0;
    for (std::size_t w = 0; w < means.size(); ++w) {
      const double share = weights[w] / weight;
      squares += share * share * (means[w] - result.nll) * (means[w] - result.nll);
    }
    const auto n = static_cast<double>(means.size());
    result.standard_error = std::sqrt(squares * n / (n - 1));
  }
  return result;
}

}  // namespace knapsaq
