#pragma once

#include <cstddef>
#include <vector>

#include "knapsaq/bank/bank.h"
#include "knapsaq/eval/candidate_scorer.h"
#include "knapsaq/search/evaluator.h"

namespace knapsaq {

/// Measures points of a search space by running the model, with matrices from a bank, on a fixed text.
class ModelEvaluator final : public Evaluator {
 public:
  /// `decoder` is the model with the bank's folding; only this evaluator may exchange its matrices.
  /// `reference` holds the results of the model without folding on the text. With Divergence::jsd both
  /// divergences are measured. The space is made from the bank's table. All arguments must outlive it.
  ModelEvaluator(const SearchSpace& space, const Bank& bank, const ReferencedWindows& reference,
                 Decoder& decoder, Divergence divergence, ScorerOptions options = {});

  Divergence divergence() const override { return divergence_; }
  std::int64_t windows() const override { return reference_.windows; }
  std::int64_t targets() const override { return reference_.targets(); }
  Measurement reference(WindowRange windows) override;
  /// A point that computes no finite numbers is reported as such (Measurement::finite()); if the reference
  /// does not either, NotFiniteError is thrown.
  void measure(std::span<const Point> points, WindowRange windows, const Done& done) override;
  double cost(std::span<const Point> points, WindowRange windows) const override;

 private:
  void require_finite_reference(WindowRange windows);
  std::vector<Choices> choices_of(std::span<const Point> points) const;

  const SearchSpace& space_;
  const ReferencedWindows& reference_;
  Divergence divergence_;
  /// [linear][choice]: the first choice with the same stored form (menus may repeat for small linears).
  std::vector<std::vector<std::size_t>> same_;
  CandidateScorer scorer_;
  bool reference_is_finite_ = false;  ///< for its tensors
};

}  // namespace knapsaq
