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

/// What one distinct input of a block summed up to.
struct ObservedInput {
  Matrix first;  ///< of the matrices that multiply it
  InputSums sums;
};

/// As floats, means over the tokens.
InputStatistics statistics_of(const ObservedInput& input);

/// Takes windows of tokens through a model block by block, with one block's weights and the hidden states of
/// all windows in memory, and looks at what the linears multiply.
///
/// For full-precision inputs: measure(i) for every block. For inputs as the blocks before make them once they
/// are quantized: observe(i), then decoder().replace(..) of linears of block i, then advance(i).
///
/// Results do not depend on the number of threads. Checkpoint, backend and progress (which hears of every
/// window that went through a block) must outlive it.
class Calibrator {
 public:
  Calibrator(const Checkpoint& checkpoint, const ModelConfig& config, const Samples& samples,
             Backend& backend, Progress& progress = Progress::none());
  /// In a decoder that has all its weights: nothing is read from files, and nothing is let go of. The same
  /// results.
  Calibrator(Decoder& loaded, const Samples& samples, Progress& progress = Progress::none());

  Calibrator(const Calibrator&) = delete;
  Calibrator& operator=(const Calibrator&) = delete;

  /// The inputs of block `index` in the order of the forward pass; hidden states go on to the next block.
  /// Blocks come one after another: another index is std::logic_error. Throws NotFiniteError, naming the
  /// first layer whose output is not finite, if what the block makes is not; and the linear whose input has
  /// squares that overflow.
  std::vector<ObservedInput> measure(std::int64_t index);
  /// The same, and the hidden states stay before the block, whose weights stay in memory.
  std::vector<InputStatistics> observe(std::int64_t index);
  /// After the last block: what the output head multiplies. `head` names it. Throws as measure() does.
  ObservedInput measure_head(const Matrix& head);
  /// Hidden states go through block `index` with the weights that are in place now.
  void advance(std::int64_t index);
  /// For replacing weights of the block that observe() has loaded.
  Decoder& decoder() { return *decoder_; }

 private:
  std::vector<ObservedInput> run(std::int64_t index, bool look, bool move);
  /// Throws NotFiniteError: passes `batch`, as it was before the block, through it again and looks.
  [[noreturn]] void explain(std::int64_t index, Hidden& batch, std::span<const float> before);

  void embed(const Samples& samples);

  const Checkpoint* checkpoint_;  ///< null where the weights are in memory already
  Progress& progress_;
  std::optional<Decoder> own_;
  Decoder* decoder_;
  std::vector<Hidden> batches_;
  std::int64_t next_ = 0;     ///< block that the hidden states stand before
  std::int64_t loaded_ = -1;  ///< block whose weights are in memory
};

}  // namespace knapsaq
