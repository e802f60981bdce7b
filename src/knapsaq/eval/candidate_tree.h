#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"

namespace knapsaq {

/// One choice for each variable matrix of a candidate.
using Choices = std::vector<std::size_t>;

/// The stages of a model (Stage::embed, kStages of block 0, of block 1, .., Stage::head), the variable
/// matrices of each, and the share of each in a pass.
class StageMap {
 public:
  /// `chosen`: some of matrices(config), in that order.
  StageMap(const ModelConfig& config, std::span<const Matrix> chosen);

  std::size_t stages() const { return first_.size() - 1; }
  std::int64_t block(std::size_t stage) const {
    return static_cast<std::int64_t>((stage - 1) / kStages.size());
  }
  Stage stage(std::size_t stage) const {
    if (stage == 0) return Stage::embed;
    return stage + 1 == stages() ? Stage::head : kStages[(stage - 1) % kStages.size()];
  }
  /// The range of its choices: [begin(stage), begin(stage + 1)).
  std::size_t begin(std::size_t stage) const { return first_[stage]; }
  /// The first stage from `stage` on in which the two have different choices; stages() if none.
  std::size_t difference(const Choices& a, const Choices& b, std::size_t stage) const;

  /// The share of stages [stage, stages()) in the multiply-adds of a pass over windows of `length` tokens:
  /// those of linears, attention, head and the projections of embeddings.
  double share_from(std::size_t stage, std::int64_t length) const;

 private:
  std::size_t stage_of_matrix(const Matrix& matrix) const;
  double attention_work(std::int64_t block, std::int64_t length) const;

  ModelConfig config_;
  std::vector<double> work_;        ///< multiply-adds of a token in the matrices of each stage
  std::vector<std::size_t> first_;  ///< index of the first choice of every stage; one more at the end
};

/// Candidates with the same choices in all stages before `split`, where their choices differ; a leaf if they
/// never do. A depth-first walk that keeps the pass at each split computes everything that candidates share
/// once.
struct CandidateTree {
  std::vector<std::size_t> candidates;  ///< ascending indices
  std::size_t split = 0;                ///< stages() in a leaf
  /// By size, ascending (then by their first candidate): when a walk enters the last child, it no longer
  /// needs its kept pass, so at most log2(candidates) passes are kept.
  std::vector<CandidateTree> branches;
};

CandidateTree candidate_tree(const StageMap& map, std::span<const Choices> candidates);

/// The cost of the tree, in passes of the whole model over the windows.
double cost_of(const CandidateTree& tree, const StageMap& map, std::int64_t length);

}  // namespace knapsaq
