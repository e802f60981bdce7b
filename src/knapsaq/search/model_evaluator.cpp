#include "knapsaq/search/model_evaluator.h"

#include <algorithm>
#include <utility>

#include "knapsaq/base/error.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/search/summarize.h"

namespace knapsaq {

ModelEvaluator::ModelEvaluator(const SearchSpace& space, const Bank& bank, const ReferencedWindows& reference,
                               Decoder& decoder, Divergence divergence, ScorerOptions options)
    : space_(space),
      reference_(reference),
      divergence_(divergence),
      scorer_(
          reference, decoder, find_matrices(decoder.config(), space.linears),
          [&space, &bank](std::size_t index, std::size_t choice) {
            return bank.matrix(space.linears[index], space.schemes[index][choice]);
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
  reference_is_finite_ = false;
  scorer_.score(candidates, windows.first, windows.last,
                [&](std::size_t candidate, std::span<const RowComparison> tokens) {
                  Measurement measurement = summarize(tokens, windows.count(), divergence_);
                  // Only now: a search never asks for the reference's logits.
                  if (!measurement.finite()) require_finite_reference(windows);
                  done(candidate, std::move(measurement));
                });
}

Measurement ModelEvaluator::reference(WindowRange windows) {
  Measurement measurement =
      summarize(scorer_.reference(windows.first, windows.last), windows.count(), divergence_);
  // reference_windows() has checked the head's input.
  if (!measurement.finite())
    throw NotFiniteError(
        "the full-precision model computes no finite perplexity on this text, and so nothing can be compared "
        "with it: the first output that is not finite or beyond all measure is that of the output head");
  return measurement;
}

void ModelEvaluator::require_finite_reference(WindowRange windows) {
  if (reference_is_finite_) return;
  static_cast<void>(reference(windows));
  reference_is_finite_ = true;
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
