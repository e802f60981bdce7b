#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "knapsaq/model/config.h"
#include "knapsaq/model/decoder.h"

namespace knapsaq {

/// One choice for every linear, in the order of linears(config).
using Choices = std::vector<std::size_t>;

/// The stages of a model (kStages of block 0, of block 1, ..) and what each takes of a pass.
class StageMap {
 public:
  explicit StageMap(const ModelConfig& config);

  std::size_t stages() const { return first_.size() - 1; }
  std::int64_t block(std::size_t stage) const { return static_cast<std::int64_t>(stage / kStages.size()); }
  Stage stage(std::size_t stage) const { return kStages[stage % kStages.size()]; }
  /// The linears that it multiplies: [begin(stage), begin(stage + 1)).
  std::size_t begin(std::size_t stage) const { return first_[stage]; }
  /// The first stage from `stage` on in which the two choose differently; stages() if none.
  std::size_t difference(const Choices& a, const Choices& b, std::size_t stage) const;

  /// Share that stages [stage, stages()) and the head have in the multiply-adds of a pass over windows of
  /// `length` tokens: those of linears, attention, head and what projects embeddings.
  double share_from(std::size_t stage, std::int64_t length) const;

 private:
  double attention_work(std::int64_t block, std::int64_t length) const;

  ModelConfig config_;
  std::vector<std::size_t> first_;  ///< of every stage's linears; one more at the end
  std::vector<double> work_;        ///< multiply-adds of a token in the linears of each stage
};

/// Candidates that choose alike in all stages before `split`, where their choices differ; a leaf if they
/// never do. A depth-first walk that keeps the pass at each split computes everything that candidates share
/// once.
struct CandidateTree {
  std::vector<std::size_t> candidates;  ///< ascending indices
  std::size_t split = 0;                ///< stages() in a leaf
  /// By size, ascending (then by their first candidate): when a walk enters the last one, it needs what it
  /// kept here no more, so that never more than log2(candidates) passes are kept.
  std::vector<CandidateTree> branches;
};

CandidateTree candidate_tree(const StageMap& map, std::span<const Choices> candidates);

/// What the tree takes, in passes of the whole model over the windows.
double cost_of(const CandidateTree& tree, const StageMap& map, std::int64_t length);

}  // namespace knapsaq
