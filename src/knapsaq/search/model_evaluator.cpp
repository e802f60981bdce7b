#include "knapsaq/search/model_evaluator.h"

#include <algorithm>
#include <utility>

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
  return result;
}

ModelEvaluator::ModelEvaluator(const SearchSpace& space, const Bank& bank, const ReferencedWindows& reference,
                               Decoder& decoder, Divergence divergence, ScorerOptions options)
    : space_(space),
      reference_(reference),
      divergence_(divergence),
      scorer_(
          reference, decoder,
          [&space, &bank](std::size_t linear, std::size_t choice) {
            return bank.matrix(space.linears[linear], space.schemes[linear][choice]);
          },
          [&] {
            options.jsd = divergence == Divergence::jsd;
            return options;
          }()) {
  for (const std::vector<Scheme>& schemes : space.schemes) {
    std::vector<std::size_t>& same = same_.emplace_back();
    for (const Scheme& scheme : schemes)
      same.push_back(static_cast<std::size_t>(std::ranges::find(schemes, scheme) - schemes.begin()));
  }
}

void ModelEvaluator::measure(std::span<const Point> points, WindowRange windows, const Done& done) {
  const std::vector<Choices> candidates = choices_of(points);
  scorer_.score(candidates, windows.first, windows.last,
                [&](std::size_t candidate, std::span<const RowComparison> tokens) {
                  done(candidate, summarize(tokens, windows.count(), divergence_));
                });
}

Measurement ModelEvaluator::reference(WindowRange windows) {
  return summarize(scorer_.reference(windows.first, windows.last), windows.count(), divergence_);
}

double ModelEvaluator::cost(std::span<const Point> points, WindowRange windows) const {
  return scorer_.cost(choices_of(points), windows.first, windows.last);
}

std::vector<Choices> ModelEvaluator::choices_of(std::span<const Point> points) const {
  std::vector<Choices> candidates;
  candidates.reserve(points.size());
  for (const Point& point : points) {
    Choices& choices = candidates.emplace_back(space_.choices(point));
    for (std::size_t linear = 0; linear < choices.size(); ++linear)
      choices[linear] = same_[linear][choices[linear]];
  }
  return candidates;
}

}  // namespace knapsaq
