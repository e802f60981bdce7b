#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "knapsaq/bank/bank_index.h"
#include "knapsaq/bank/folder_lock.h"
#include "knapsaq/base/made_folder.h"

namespace knapsaq {

/// The folder of a bank during the build: created if it does not exist, and locked against other processes
/// during this object's lifetime.
class BankFolder {
 public:
  /// Throws IoError if the folder cannot be created or another process builds in it, UsageError if it exists
  /// and is not a bank's, InputError for a damaged index; the folder is then left unchanged. Removes partial
  /// files of a killed process.
  explicit BankFolder(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return folder_.path(); }
  /// The place of a calibration that was made for this bank.
  std::filesystem::path calibration() const { return path() / kBankCalibrationName; }
  /// The place of the folding with which the bank was built.
  std::filesystem::path folding() const { return path() / kBankFoldingName; }
  /// Whether the bank has its index, that is, whether the bank's sources are fixed.
  bool is_begun() const;
  /// Whether a bank was begun here that has Fisher costs.
  bool has_fisher() const;
  /// Throws UsageError, saying what is different, if the folder holds the bank of another model or with other
  /// schemes.
  void check(std::string_view model, const Menu& menu) const;
  /// The same for a bank of other matrices.
  void check_matrices(std::span<const Matrix> matrices) const;
  /// The same for statistics of the inputs with another identity ("": none), before they are made.
  void check_inputs(const std::string& identity) const;
  /// The same for scales with another identity ("": none), before they are kept.
  void check_folding(const std::string& identity) const;
  /// Checks all of this for everything that a bank is built from. Writes the index if there is none, and
  /// creates the folder of the linears' files.
  void claim(const BankIndex& index) const;

 private:
  MadeFolder folder_;  ///< removed again if it stays empty
  FolderLock lock_;
};

/// Throws UsageError, before any work, if the path exists and is neither a bank nor the beginning of one;
/// InputError for a damaged index.
void check_bank_place(const std::filesystem::path& path);

}  // namespace knapsaq
