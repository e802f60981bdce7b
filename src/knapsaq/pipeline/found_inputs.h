#pragma once

// What every step that may need a calibration shares.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/calib/calibration.h"
#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/calib/samples.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/model/folding.h"
#include "knapsaq/pipeline/calibrate.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// Whether `text` asks for text of the model's own. Throws UsageError if it asks for files as well.
bool is_self(std::span<const std::string> text);
/// Whether these options mean text of the model's own where no calibration is there.
bool uses_self(const CalibrationOptions& options);

/// Tells the plan of texts and calibration: what is read, and where a calibration is made that
/// CalibrationOptions::folder names.
void plan_calibration(OutputPlan& plan, const CalibrationOptions& options);
/// Tells the plan of texts.
void plan_texts(OutputPlan& plan, std::span<const std::string> text);

/// Throws UsageError for what can be known to be wrong before any work: text of both kinds, or a folder that
/// holds no calibration while there is no text to make one.
void check_calibration_options(const CalibrationOptions& options);
/// Reads the files that the options name, for refusing before any work what is no text (text/corpus.h).
void check_texts(Session& session, const CalibrationOptions& options);

Precision precision_of(const CalibrationOptions& options);

/// Statistics of inputs that are there, or that can be made: what they are is known before anything is.
class FoundInputs {
 public:
  /// With text: the calibration in the folder if it was made from this text with these options, else a new
  /// one that is to be made there (after a kill: finished). Without text: the one in the folder, or one of
  /// the model's own text where there is none. The folder is `options.folder`, which may also be an imatrix
  /// file, or `default_folder` if that is empty. Writes nothing. Throws UsageError if `options.folder` has no
  /// calibration and there is no text.
  FoundInputs(Session& session, const CalibrationOptions& options,
              const std::filesystem::path& default_folder);
  FoundInputs(FoundInputs&&) noexcept;
  ~FoundInputs();

  /// Statistics of outputs are not used, whether they are there or not, nor made.
  void forget_outputs();
  /// InputSource::identity() of what get() gives.
  std::string identity() const;
  /// Makes the calibration if it is not there. Throws UsageError if the folder holds one that was made from
  /// something else.
  std::unique_ptr<InputSource> get();

 private:
  Session& session_;
  Precision precision_;
  std::int64_t gradient_windows_ = 0;  ///< of the statistics of outputs
  std::filesystem::path folder_;
  bool forgets_outputs_ = false;
  std::unique_ptr<InputSource> there_;
  std::unique_ptr<Samples> samples_;  ///< of a calibration that is to be made, or finished
};

/// The number of windows that Fisher information is estimated from.
std::int64_t gradient_windows_of(const CalibrationOptions& options, const SampleOptions& samples);

/// calibrate() of these samples in `folder`: in the decoder that is loaded, or block by block from the files.
Calibration make_calibration(Session& session, const Samples& samples, Precision precision,
                             const std::filesystem::path& folder, bool replace,
                             std::int64_t gradient_windows = 0);

/// The windows of `options.text`, or without one of the model's own text, that a calibration looks at; at
/// most `most_tokens` tokens of them, but one window, if that is not 0.
Samples calibration_samples(Session& session, const CalibrationOptions& options,
                            std::int64_t most_tokens = 0);

/// AWQ's scales for a model, found with calibration_samples(). `inputs` has second moments.
Folding find_scales(Session& session, const InputSource& inputs, const CalibrationOptions& options);
/// Folding::origin() of what find_scales() finds with these inputs.
std::string scales_origin(const InputSource& inputs);
/// Whether a scheme is of a method that is meant for folded weights.
bool wants_folding(std::span<const Scheme> schemes);
bool wants_folding(std::span<const MatrixScheme> allocation);

}  // namespace knapsaq
