#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "knapsaq/base/progress.h"
#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/calib/samples.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/family/config.h"
#include "knapsaq/model/decoder.h"

namespace knapsaq {

/// The inputs that determine the statistics of a calibration.
struct CalibrationSource {
  std::string model;      ///< fingerprint() of the checkpoint
  std::string text;       ///< CalibrationText::hash
  SampleOptions options;  ///< resolved
  Precision precision = Precision::bf16;

  bool operator==(const CalibrationSource&) const = default;
};

/// The input statistics of every matrix of a model, in a folder: calibration.json (its sources, the content
/// of the files, checksums), one safetensors file per block, and one for the ends of the model; if they were
/// asked for, as many again with statistics of gradients by the outputs (Fisher information). Files are
/// memory-mapped; a block's file is checked against its checksum when it is first used. inputs() may be
/// called from many threads.
class Calibration final : public InputSource {
 public:
  /// Throws InputError for a folder without a calibration, or with an unfinished or damaged one.
  static Calibration open(const std::filesystem::path& folder);
  Calibration(Calibration&&) noexcept;
  Calibration& operator=(Calibration&&) noexcept;
  ~Calibration() override;

  const std::filesystem::path& folder() const;
  const CalibrationSource& source() const;

  /// Throws InputError for an unknown linear, another width, a damaged file, and values that cannot be
  /// statistics (NaN, infinities, negative squares).
  InputStatistics inputs(std::string_view matrix, std::int64_t width) const override;
  /// Empty for a calibration of version 0.1.
  RowShares row_shares(std::int64_t rows) const override;
  std::optional<OutputStatistics> outputs(std::string_view matrix, std::int64_t width) const override;
  bool has_outputs() const override;
  bool has_second_moments() const override { return true; }
  /// That experts saw few tokens.
  std::vector<std::string> notes() const override;
  /// "calibration 128x2048 seed 0 bf16, tokens <hash>, model <fingerprint>", and if it has statistics of
  /// outputs
  /// ", gradients of 4".
  std::string identity() const override;
  /// From now on like a calibration without statistics of outputs: for banks that were begun with one.
  void forget_outputs();

 private:
  struct Impl;
  explicit Calibration(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Whether `folder` holds a calibration, finished or not, that was started from exactly these sources. Throws
/// InputError if its calibration.json is damaged.
bool is_calibration_of(const std::filesystem::path& folder, const CalibrationSource& source);
/// Throws UsageError, before any work, if the path exists and is neither a calibration nor the beginning of
/// one.
void check_calibration_place(const std::filesystem::path& folder);
/// Calibration::identity() of calibrate()'s result: `tokens_hash` is that of the samples.
std::string calibration_identity(const CalibrationSource& source, std::string_view tokens_hash,
                                 std::int64_t gradient_windows);
/// Whether there is a calibration, finished or not.
bool has_calibration(const std::filesystem::path& folder);

/// Throws InputError, one line that names both, if the calibration belongs to another model.
void require_same_model(const Calibration& calibration, std::string_view fingerprint);

/// Runs the samples through the model, block by block with only one block's weights in memory, and writes the
/// calibration to `folder` (Calibrator documents the statistics). Finished blocks are on the disk: after a
/// kill, a call with the same arguments does not compute them again, and the result is the same, byte for
/// byte. `fingerprint` is that of the checkpoint.
///
/// With `gradient_windows`, statistics of the outputs follow, from the first so many windows of the samples
/// (GradientCalibrator): a forward and a backward pass over these, together about three forward passes. A
/// calibration without them is completed; one with another number of windows is another calibration.
///
/// With `replace`, another calibration in the folder is replaced when the new one is finished; until then the
/// new one lies in `<folder>.new`.
///
/// Throws UsageError, before anything is written, if the folder holds another calibration and `replace` is
/// not set, or if it holds something else; InputError, naming the linear, if the inputs of a linear are not
/// finite; Cancelled.
Calibration calibrate(const Checkpoint& checkpoint, const ModelConfig& config, std::string_view fingerprint,
                      const Samples& samples, Backend& backend, const std::filesystem::path& folder,
                      bool replace = false, Progress& progress = Progress::none(),
                      std::int64_t gradient_windows = 0);
/// The same with a model that is in memory, all of it.
Calibration calibrate(Decoder& decoder, std::string_view fingerprint, const Samples& samples,
                      const std::filesystem::path& folder, bool replace = false,
                      Progress& progress = Progress::none(), std::int64_t gradient_windows = 0);

}  // namespace knapsaq
