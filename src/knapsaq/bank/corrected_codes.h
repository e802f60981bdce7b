#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/bank/linear_file.h"
#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/calib/samples.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/stored_matrix.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/folding.h"

namespace knapsaq {

/// What corrected codes are made of besides the checkpoint.
struct CorrectionRecipe {
  std::string model;  ///< fingerprint() of the checkpoint
  /// Schemes of some of matrices(config), in that order; the others stay as they are stored.
  std::span<const MatrixScheme> allocation;
  /// The codes of matrices that are not corrected: of the embedding, if the allocation has a scheme for it,
  /// and of the MLPs of layers of experts, whose tokens may go other ways in the quantized model.
  std::function<StoredMatrix(const Matrix& matrix, const Scheme& scheme)> embedding;
  const Samples& samples;
  /// Scales that are folded into the weights; null if there are none.
  const Folding* folding = nullptr;
  /// Statistics of the gradients by the linears' outputs, for methods that weigh these (two-sided rounding);
  /// null if there are none. They are those without folding, and are not looked at with one.
  const InputSource* outputs = nullptr;
  /// The largest share of an error that is corrected, 0 to 1; 0: the weights stay, and only statistics are
  /// those of the model as quantized so far.
  double most_share = 1;
};

/// Quantizes the linears of the blocks for one allocation, stage by stage (q, k, v; o; gate, up; down), with
/// the inputs of the model as quantized so far, and with weights that are corrected for errors of these
/// inputs and of the residual stream (StageCorrection). The codes depend on the choices for all preceding
/// matrices, so a bank cannot hold them.
///
/// The files of finished linears, one scheme each, are in `folder`; the result has one for each linear of the
/// allocation, in its order. After a kill, a call with the same arguments does not quantize them again. The
/// bytes depend neither on the number of threads nor on interruptions.
///
/// In memory: PairedStreams; for one input about 50 in^2 bytes of sums and factors; of one matrix the weights
/// up to five times as floats. Throws UsageError for a scheme that its method does not support and for a
/// folder that check_corrected_folder() refuses; InputError, naming the matrix, for weights that cannot be
/// quantized; NotFiniteError; Cancelled.
std::vector<LinearFile> correct_codes(const Checkpoint& checkpoint, const ModelConfig& config,
                                      const CorrectionRecipe& recipe, Backend& backend,
                                      const std::filesystem::path& folder,
                                      Progress& progress = Progress::none());

/// Throws UsageError, naming the obstacle, if `folder` exists and contains anything but what correct_codes()
/// writes for such a model. Call it before long work.
void check_corrected_folder(const std::filesystem::path& folder, const ModelConfig& config);

/// Removes what correct_codes() wrote into `folder`, and the folder if nothing else is in it.
void remove_corrected(const std::filesystem::path& folder, const ModelConfig& config);

}  // namespace knapsaq
