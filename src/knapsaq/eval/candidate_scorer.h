#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "knapsaq/compute/stored_matrix.h"
#include "knapsaq/eval/candidate_tree.h"
#include "knapsaq/eval/referenced_windows.h"
#include "knapsaq/eval/weight_cache.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {

/// Matrix `index` of the variable matrices, as choice number `choice` stores it.
using ChoiceSource = std::function<StoredMatrix(std::size_t index, std::size_t choice)>;

struct ScorerOptions {
  bool jsd = false;                ///< measure the Jensen-Shannon divergence too
  std::uint64_t weight_cache = 0;  ///< bytes of prepared weights to keep; 0: a quarter of the memory
  /// Bytes of head inputs of waiting candidates: several candidates wait so that the reference's logits are
  /// computed once for all of them; at least one waits.
  std::uint64_t waiting = std::uint64_t{256} << 20;
};

/// Measures allocations of one model on one fixed text, token by token, and shares their common work: what
/// candidates of a batch with the same choices up to some stage compute up to there is computed once. Every
/// result equals that of a separate pass of the candidate, to the last bit.
///
/// Used by one thread at a time; the work inside is parallel. All arguments must outlive it.
class CandidateScorer {
 public:
  /// Candidates choose about `chosen`, some of matrices(config) in that order; `decoder` has all other
  /// weights (folded, if the choices are). Only this scorer may exchange its matrices. It must use the
  /// reference's backend.
  CandidateScorer(const ReferencedWindows& reference, Decoder& decoder, std::vector<Matrix> chosen,
                  ChoiceSource source, const ScorerOptions& options = {});
  ~CandidateScorer();

  /// One RowComparison for each scored token: windows * (length - 1), window after window.
  using Done = std::function<void(std::size_t candidate, std::span<const RowComparison> tokens)>;
  /// Measures the candidates on windows [first, last) and reports each result as soon as it is available, in
  /// an order that depends on the candidates only. Throws what the source and Decoder::prepare() throw, and
  /// Cancelled between results.
  void score(std::span<const Choices> candidates, std::int64_t first, std::int64_t last, const Done& done);

  /// The reference itself as a candidate: its losses, and no divergence.
  std::vector<RowComparison> reference(std::int64_t first, std::int64_t last);

  /// The cost of score(), in passes of the whole model over all windows of the reference, computed from the
  /// candidates alone: the share of multiply-adds (StageMap). The reference's logits do not count.
  double cost(std::span<const Choices> candidates, std::int64_t first, std::int64_t last) const;

 private:
  /// A pass of some windows, stopped before a stage: one part for each batch of rows.
  using Passes = std::vector<PartialPass>;
  struct Run;

  void walk(Run& run, const CandidateTree& tree, std::size_t stage, Passes* before, bool keep);
  void place(std::size_t index, std::size_t choice);
  /// Places the matrices of `choices` for the stage and runs it.
  void run_stage(std::size_t stage, const Choices& choices, std::span<const std::int32_t> tokens,
                 std::int64_t windows, PartialPass& pass);
  void compare(Run& run);
  /// An array with any content, a returned one if possible: fresh memory is slow at first use.
  Array spare(std::int64_t rows, std::int64_t cols, Element element);
  void give_back(Array& array);
  std::int64_t attended_width() const;

  const ReferencedWindows& reference_;
  Decoder& decoder_;
  std::vector<Matrix> chosen_;
  ChoiceSource source_;
  ScorerOptions options_;
  StageMap map_;
  WeightCache cache_;
  std::vector<std::size_t> placed_;  ///< the choice currently in the decoder; kNone: its own matrix
  std::vector<Array> spare_;
  std::int64_t spare_windows_ = 0;  ///< for which they were made
};

}  // namespace knapsaq
