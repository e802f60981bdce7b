#pragma once

// Statistics of what a model's matrices multiply. Steps that need them make them on the way.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/calib/sample_options.h"
#include "knapsaq/pipeline/session.h"

namespace knapsaq {

/// The word for text that the model itself samples, where files of text are asked for.
inline constexpr std::string_view kSelf = "self";

/// Tokens that Fisher information is estimated from where it is wanted: four windows of 512 or one of 2048.
/// More of them do not change which matrices matter (a single window's estimates have a coefficient of
/// variation of 0.1).
inline constexpr std::int64_t kFisherTokens = 2048;

/// What the statistics are made from.
struct CalibrationOptions {
  /// Folder of calibrate(), made there from `text` if it does not exist, or an imatrix file of llama.cpp;
  /// empty: the step's own place.
  std::string folder;
  /// Files (UTF-8, or JSONL with a field "text" where the name ends in .jsonl), or kSelf alone; empty: a
  /// calibration that is there, else kSelf.
  std::vector<std::string> text;
  SampleOptions samples;  ///< windows to look at, their length, the seed of their places
  /// Fisher information as well: statistics of gradients by the matrices' outputs, from the first windows,
  /// which costs three forward passes of these. Without, none are made; those that are there are used.
  bool fisher = false;
  std::int64_t fisher_tokens = kFisherTokens;  ///< at least so many in these windows; 0: as without `fisher`
  std::string precision = "bf16";              ///< arithmetic of the forward pass: "bf16" or "fp32"
};

/// Makes, or finishes, a calibration.
struct CalibrateOptions {
  CalibrationOptions calibration;  ///< without folder
  std::string output;              ///< folder; one that was begun with the same options is gone on with
  std::string imatrix;             ///< also write the mean squares to this GGUF file, as llama.cpp reads them
  bool force = false;              ///< replace another calibration in `output`, and the imatrix file
};
struct CalibrateResult {
  std::string fingerprint;  ///< of the model
  std::string text;         ///< hash of the text, or what was sampled
  std::string identity;     ///< of the statistics
  SampleOptions samples;    ///< with what was left open filled in
  std::int64_t tokens = 0;
  double seconds = 0;
};
/// Throws UsageError for places and texts that cannot be, InputError for inputs of a matrix that are not
/// finite, Cancelled. What is finished stays: the same call goes on.
CalibrateResult calibrate(Session& session, const CalibrateOptions& options);

}  // namespace knapsaq
