#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/bank/bank.h"
#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/file_sizes.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/search/archive.h"
#include "knapsaq/search/evaluator.h"
#include "knapsaq/search/pins.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// Windows of tokens on which allocations are measured: [windows, length], window after window.
struct TokenSet {
  std::vector<std::int32_t> tokens;
  std::int64_t length = 0;
  std::int64_t windows() const { return length == 0 ? 0 : std::ssize(tokens) / length; }
};

/// Everything that decides about what a run measures.
struct RunSettings {
  std::string model;  ///< fingerprint()
  std::string text;   ///< what the token sets were made of, for people: "self seed 0", names of files
  std::string ties = "none";
  std::vector<std::string> pins;   ///< as parse_pin() reads them
  std::string engine;              ///< what the result is for (find_engine()); empty: Knapsaq's own format
  std::vector<std::string> dense;  ///< matrices that are not quantized (MatrixSelection::dense)
  std::vector<std::string> kept;   ///< modules that are written as they are stored (MatrixSelection::kept)
  Divergence divergence = Divergence::kl;
  Precision precision = Precision::bf16;
  TokenSet search;
  TokenSet heldout;
};

enum class Access : std::uint8_t {
  read,
  write,
  write_if_free  ///< read if another process writes
};

/// A search's folder: archive.db with every measurement, and `bank` unless the bank is elsewhere. Opened, it
/// has model, bank and search space at hand.
class Run {
 public:
  /// Throws UsageError, before any work, if something is there that is no run's folder, nor the beginning of
  /// one.
  static void check_place(const std::filesystem::path& folder);
  /// Throws UsageError, saying what is different, if the folder holds a run with other settings than these;
  /// token sets without tokens are not looked at. `bank`: where the bank is or will be. Changes nothing.
  static void check(const std::filesystem::path& folder, const RunSettings& settings,
                    const std::filesystem::path& bank);
  /// The folder's archive, for writing; made if there is none. Throws UsageError, saying what is different,
  /// if the folder holds a run of another model, bank, text or space; InputError if `bank` is not of the
  /// model.
  static Run create(const std::filesystem::path& folder, const std::filesystem::path& model,
                    const std::filesystem::path& bank, const RunSettings& settings);
  /// A run that is there, also one that another process writes. `model`: where the model is now; empty: where
  /// it was. Throws UsageError if the folder holds no run, or if bank, space or (unless it is for reading
  /// only) model are not those that it was made with, what opening a checkpoint and a bank throws, and with
  /// Access::write IoError if another process writes.
  static Run open(const std::filesystem::path& folder, Access access,
                  const std::filesystem::path& model = {});

  const std::filesystem::path& folder() const { return folder_; }
  const std::filesystem::path& model_folder() const { return model_; }
  const RunSettings& settings() const { return settings_; }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const ModelConfig& config() const { return config_; }
  const Bank& bank() const { return *bank_; }
  const SearchSpace& space() const { return space_; }
  Archive& archive() { return *archive_; }
  const Archive& archive() const { return *archive_; }

  /// What the model is called: the name of its folder.
  std::string model_name() const;
  /// The full-precision model's own loss on a whole token set, nats per token: what the archive knows, or
  /// what `evaluator` of this set finds, which is kept if the archive is writable; nothing without either.
  std::optional<double> reference_loss(std::string_view set, Evaluator* evaluator = nullptr);
  std::optional<double> reference_loss(std::string_view set) const;

 private:
  /// Everything but the archive.
  Run(std::filesystem::path folder, std::filesystem::path model, const std::filesystem::path& bank,
      RunSettings settings);
  void take(Archive archive);

  std::filesystem::path folder_;
  std::filesystem::path model_;
  RunSettings settings_;
  std::unique_ptr<Checkpoint> checkpoint_;
  ModelConfig config_;
  std::unique_ptr<Bank> bank_;
  SearchSpace space_;
  std::optional<Archive> archive_;  ///< always there once create() or open() is done
};

/// The files' bytes of what is written for an engine ("": in Knapsaq's own format) as a function of the
/// schemes of the table's cells.
std::shared_ptr<const FileSizes> output_sizes(const std::string& engine, const Checkpoint& model,
                                              const ModelConfig& config, const ErrorTable& table,
                                              const WriteOptions& options);

/// Whether a run is in the folder whose settings are there: one that was killed before is begun again. Throws
/// InputError for an archive that is none.
bool has_run(const std::filesystem::path& folder);

/// Where calibrations of a study's own are kept, in the run's folder.
inline constexpr std::string_view kStudyCalibrationName = "calibration";
/// Where a run keeps a bank of its own, in its folder.
inline constexpr std::string_view kRunBankName = "bank";

/// What the run of a folder is of. Throws as Run::open() does.
RunSettings read_run_settings(const std::filesystem::path& folder);

/// The searches of the run of a folder. Throws as Run::open() does.
std::vector<SearchRecord> read_searches(const std::filesystem::path& folder);

}  // namespace knapsaq
