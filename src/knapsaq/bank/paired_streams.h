#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "knapsaq/base/progress.h"
#include "knapsaq/calib/calibrator.h"
#include "knapsaq/calib/samples.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/stored_matrix.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/model/folding.h"

namespace knapsaq {

/// The input of a stage's matrices in two models on the same tokens: x in the full-precision one, y in the
/// one that is quantized so far.
struct PairedSums {
  InputSums quantized;  ///< sums over y
  /// [in, in] sum of (x - y) y^T: how errors of the input go with the input.
  std::vector<float> errors;
  /// [H, in] sum of (r - s) y^T for the stages that add to the residual stream, with r and s what they add to
  /// in the two models; else empty.
  std::vector<float> residual_errors;
};
struct PairedInputs {
  Matrix first;      ///< of the matrices with this input
  PairedSums fit;    ///< over the first windows
  PairedSums judge;  ///< over the last quarter of the windows; no rows if there are fewer than four
};

/// Windows of tokens on their way through a full-precision model and the same model with some matrices
/// quantized, stage by stage.
///
/// In memory: the hidden states of all windows twice, between two stages of a block also what the first of
/// them hands to the second (attention's results, or the activations of the MLP), twice, and the weights of
/// one block, twice where they are quantized. Results do not depend on the number of threads. All arguments
/// of the constructor must outlive it.
class PairedStreams {
 public:
  /// `folding` null: none. `embedding` null: not quantized.
  PairedStreams(const Checkpoint& checkpoint, const ModelConfig& config, const Samples& samples,
                Backend& backend, const Folding* folding, const StoredMatrix* embedding);

  PairedStreams(const PairedStreams&) = delete;
  PairedStreams& operator=(const PairedStreams&) = delete;

  /// Loads a block; in order. Both models have its full-precision weights.
  void begin_block(std::int64_t index);
  /// The inputs of the stage that is next.
  PairedInputs measure(Stage stage, Progress& progress);
  /// Exchanges a matrix of the block in the quantized model.
  void replace(const Matrix& matrix, const StoredMatrix& stored);
  /// Runs both models through a stage; in the order of kStages.
  void advance(Stage stage, Progress& progress);
  /// Lets go of the block. Throws NotFiniteError if a hidden state after it is not finite.
  void end_block();

 private:
  struct Batch {
    std::int64_t windows = 0;
    PartialPass full;
    PartialPass quantized;
  };
  const Matrix& first_of(Stage stage) const;
  void place(const std::vector<PreparedMatrix>& matrices);
  void embed(const Samples& samples, PartialPass Batch::*stream);
  PairedSums sums_of(Stage stage, std::span<const Batch> batches, Progress& progress);

  const Checkpoint& checkpoint_;
  const Folding* folding_;
  Decoder decoder_;
  std::vector<Batch> batches_;
  std::size_t fit_ = 0;  ///< the first batches, over which PairedInputs::fit is
  std::int64_t block_ = -1;
  std::vector<Matrix> matrices_;      ///< of the block
  std::vector<PreparedMatrix> full_;  ///< one for each of them
  std::vector<PreparedMatrix> quantized_;
};

}  // namespace knapsaq
