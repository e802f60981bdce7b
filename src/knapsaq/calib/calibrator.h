#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "knapsaq/base/progress.h"
#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/calib/samples.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"

namespace knapsaq {

/// The sums over one distinct input of a block.
struct ObservedInput {
  Matrix first;  ///< of the matrices with this input
  InputSums sums;
  /// Rows in the sums, beside sums.rows, that no token had (lend_to_experts()).
  std::uint64_t lent = 0;
  /// The sums' factor to means.
  double share() const {
    const std::uint64_t rows = sums.rows + lent;
    return rows == 0 ? 0 : 1.0 / static_cast<double>(rows);
  }
};

/// As floats, means over the tokens.
InputStatistics statistics_of(const ObservedInput& input);

/// Runs windows of tokens through a model block by block, with one block's weights and the hidden states of
/// all windows in memory, and accumulates statistics of the linears' inputs.
///
/// Results do not depend on the number of threads. Checkpoint, backend and progress (which receives every
/// window that finished a block) must outlive it.
class Calibrator {
 public:
  Calibrator(const Checkpoint& checkpoint, const ModelConfig& config, const Samples& samples,
             Backend& backend, Progress& progress = Progress::none());
  /// In a decoder that has all its weights: nothing is read from files, and nothing is let go of. The same
  /// results.
  Calibrator(Decoder& loaded, const Samples& samples, Progress& progress = Progress::none());

  Calibrator(const Calibrator&) = delete;
  Calibrator& operator=(const Calibrator&) = delete;

  /// The inputs of block `index` in the order of the forward pass; hidden states advance to the next block.
  /// Blocks must come in order: another index is std::logic_error. Throws NotFiniteError, naming the first
  /// layer whose output is not finite, if the block's output is not, and naming the linear if the squares of
  /// its input overflow.
  std::vector<ObservedInput> measure(std::int64_t index);
  /// The same without sums.
  void advance(std::int64_t index);
  /// After the last block: the inputs of the output head. `head` names it. Throws like measure().
  ObservedInput measure_head(const Matrix& head);

 private:
  std::vector<ObservedInput> run(std::int64_t index, bool look);
  /// Throws NotFiniteError: runs `batch`, as it was before the block, through it again with checks.
  [[noreturn]] void explain(std::int64_t index, Hidden& batch, std::span<const float> before);

  void embed(const Samples& samples);

  const Checkpoint* checkpoint_;  ///< null where the weights are in memory already
  Progress& progress_;
  std::optional<Decoder> own_;
  Decoder* decoder_;
  std::vector<Hidden> batches_;
  std::int64_t next_ = 0;  ///< the next block of the hidden states
};

}  // namespace knapsaq
