#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "knapsaq/bank/bank_index.h"
#include "knapsaq/bank/folder_lock.h"
#include "knapsaq/base/made_folder.h"

namespace knapsaq {

/// The folder of a bank while it is being built: made if it does not exist, and locked against other
/// processes until this object goes.
class BankFolder {
 public:
  /// Throws IoError if the folder cannot be made or another process builds in it, UsageError if it exists and
  /// is not a bank's, InputError for a damaged index; the folder is left as it was then. Removes what a
  /// process that was killed left half-written.
  explicit BankFolder(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return folder_.path(); }
  /// Where a calibration that was made for this bank is kept.
  std::filesystem::path calibration() const { return path() / kBankCalibrationName; }
  /// Where the folding that the bank was built on is kept.
  std::filesystem::path folding() const { return path() / kBankFoldingName; }
  /// Whether the bank has its index: what it is built from is settled.
  bool is_begun() const;
  /// Throws UsageError, saying what is different, if the folder holds the bank of another model or with other
  /// schemes than these.
  void check(std::string_view model, const Menu& menu) const;
  /// The same for a bank of other matrices.
  void check_matrices(std::span<const Matrix> matrices) const;
  /// The same for statistics of the inputs with another identity ("": none), before they are made.
  void check_inputs(const std::string& identity) const;
  /// The same for scales with another identity ("": none), before they are kept.
  void check_folding(const std::string& identity) const;
  /// All of that for everything that a bank is built from; writes the index if there is none, and sees
  /// to the folder of the linears' files.
  void claim(const BankIndex& index) const;

 private:
  MadeFolder folder_;  ///< gone again if nothing comes into it
  FolderLock lock_;
};

/// Throws UsageError, before any work, if something is there that is no bank, nor the beginning of one;
/// InputError for a damaged index.
void check_bank_place(const std::filesystem::path& path);

}  // namespace knapsaq
