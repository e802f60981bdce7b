#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "knapsaq/base/progress.h"
#include "knapsaq/calib/samples.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/decoder.h"

namespace knapsaq {

/// Outputs wider than this have mean squares only: the second moment of 4096 values takes 32 MiB in a file
/// (its lower triangle) and 64 MiB as sums, that of a feed-forward layer's 11,008 seven times as much.
inline constexpr std::int64_t kWidestOutput = 4096;

/// Sums over the gradients by the output of one matrix.
struct ObservedOutput {
  std::string name;        ///< the matrix; of the head "lm_head", also if it is the embedding
  std::int64_t width = 0;  ///< of the output
  std::uint64_t tokens = 0;
  std::vector<double> squares;  ///< [width] sums of g_k^2; empty if there are products
  std::optional<InputSums> products;
};

/// Runs windows of tokens forward and backward through a model, block by block, and sums squares and products
/// of the gradients of the loss by the outputs of its matrices (OutputStatistics). The loss is the cross
/// entropy with targets that are drawn from the model's own distribution after every token, by one random
/// number for each window and position; the results therefore depend neither on batches nor on threads.
///
/// In memory are one block's weights, its sums, and the hidden states of these windows before every block.
/// Checkpoint, decoder, backend and progress (which receives every window that passed a block, either way)
/// must outlive it.
class GradientCalibrator {
 public:
  /// The first `windows` windows of the samples. Runs them forward.
  GradientCalibrator(const Checkpoint& checkpoint, const ModelConfig& config, const Samples& samples,
                     std::int64_t windows, Backend& backend, Progress& progress = Progress::none());
  /// In a decoder that has all its weights. The same results.
  GradientCalibrator(Decoder& loaded, const Samples& samples, std::int64_t windows,
                     Progress& progress = Progress::none());

  GradientCalibrator(const GradientCalibrator&) = delete;
  GradientCalibrator& operator=(const GradientCalibrator&) = delete;

  // In this order: head(), block() from the last to the first, embedding(); another one is std::logic_error.
  // Each throws NotFiniteError, naming the matrix, if a sum is not finite, and Cancelled.

  /// The gradients by the logits. Their squares are the expectation over targets, p_k (1 - p_k), not drawn.
  ObservedOutput head();
  /// The gradients by the outputs of the block's matrices, in the order of the backward pass. Without `look`
  /// only the gradients move.
  std::vector<ObservedOutput> block(std::int64_t index, bool look = true);
  /// The gradients by what is looked up.
  ObservedOutput embedding();

 private:
  void forward(const Samples& samples, std::int64_t windows);

  const Checkpoint* checkpoint_;  ///< null where the weights are in memory already
  Progress& progress_;
  std::optional<Decoder> own_;
  Decoder* decoder_;
  std::vector<std::vector<Hidden>> before_;  ///< [block][batch]; the last: after the last block
  std::vector<Array> gradients_;             ///< [batch] by the hidden states before block `next_ + 1`
  std::vector<double> draws_;                ///< [window * position]
  std::int64_t next_ = 0;                    ///< the next block; `layers`: the head; -1: the embedding
};

}  // namespace knapsaq
