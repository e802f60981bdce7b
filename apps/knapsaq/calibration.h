#pragma once

// What every verb that may need a calibration shares: its options, and making one where there is none.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "arguments.h"
#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/calib/calibration.h"
#include "knapsaq/model/folding.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq::command {

/// The word for text that the model samples itself, in the place of files; what is used without any.
inline constexpr std::string_view kSelf = "self";

struct CalibrationOptions {
  std::string folder;             ///< --calibration, or an imatrix file; empty: the verb's default place
  std::vector<std::string> text;  ///< --text: files, or kSelf alone
  SampleOptions samples;          ///< --samples, --window, --seed
  std::string precision = "bf16";
};

/// --text, --samples, --window, --seed (or as `seed` calls it) and --precision; with `with_folder` also
/// --calibration.
void add_calibration_options(Verb verb, CalibrationOptions& options, bool with_folder,
                             const std::string& seed = "--seed");

/// Whether `text` asks for text of the model's own. Throws UsageError if it asks for files as well.
bool is_self(std::span<const std::string> text);

/// Tells the plan of texts and calibration: what is read, and where a calibration is made that --calibration
/// names.
void plan_calibration(OutputPlan& plan, const CalibrationOptions& options);
/// Tells the plan of texts.
void plan_texts(OutputPlan& plan, std::span<const std::string> text);

/// Throws UsageError for what can be known to be wrong before any work: --text of both kinds, or a folder
/// given with --calibration that holds none while there is no --text to make one.
void check_calibration_options(const CalibrationOptions& options);
/// Reads the files that the options name, for refusing before any work what is no text (text/corpus.h).
void check_texts(const CalibrationOptions& options);

/// Statistics of inputs that are there, or that can be made: what they are is known before anything is.
class FoundInputs {
 public:
  /// With text: the calibration in the folder if it was made from this text with these options, else a new
  /// one that is to be made there (after a kill: finished). Without text: the one in the folder, or one of
  /// the model's own text where there is none. The folder is `options.folder`, which may also be an imatrix
  /// file of llama.cpp, or `default_folder` if that is empty. Writes nothing. Throws UsageError if
  /// `options.folder` has no calibration and there is no text. Checkpoint and config must outlive this.
  FoundInputs(const Checkpoint& checkpoint, const ModelConfig& config, std::string_view fingerprint,
              const CalibrationOptions& options, const std::filesystem::path& default_folder);

  /// InputSource::identity() of what get() gives.
  std::string identity() const;
  /// Makes the calibration if it is not there. Throws UsageError if the folder holds one that was made from
  /// something else.
  std::unique_ptr<InputSource> get();

 private:
  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  std::string fingerprint_;
  std::filesystem::path folder_;
  std::unique_ptr<InputSource> there_;
  std::unique_ptr<Backend> backend_;  ///< with samples_: of a calibration that is to be made, or finished
  std::optional<Samples> samples_;
};

/// The windows of `options.text`, or without one of the model's own text, that a calibration looks at; at
/// most `most_tokens` tokens of them, but one window, if that is not 0. `backend` runs the model for its own
/// text.
Samples calibration_samples(const Checkpoint& checkpoint, const ModelConfig& config,
                            const CalibrationOptions& options, Backend& backend,
                            std::int64_t most_tokens = 0);
/// The same with everything that is not a CLI option of these verbs said apart.
Samples calibration_samples(const Checkpoint& checkpoint, const ModelConfig& config,
                            std::span<const std::string> text, SampleOptions options, Backend& backend,
                            std::int64_t most_tokens = 0);

/// The backend that `options.precision` asks for.
std::unique_ptr<Backend> calibration_backend(const CalibrationOptions& options);

/// AWQ's scales for a model, found with calibration_samples(). `inputs` has second moments.
Folding find_scales(const Checkpoint& checkpoint, const ModelConfig& config, std::string_view fingerprint,
                    const InputSource& inputs, const CalibrationOptions& options);

/// Folding::origin() of what find_scales() finds with these inputs.
std::string scales_origin(const InputSource& inputs);

/// Whether a scheme is of a method that is meant for folded weights.
bool wants_folding(std::span<const Scheme> schemes);
bool wants_folding(std::span<const MatrixScheme> allocation);

}  // namespace knapsaq::command
