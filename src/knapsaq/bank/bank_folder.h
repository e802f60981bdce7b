#pragma once

#include <filesystem>

#include "knapsaq/bank/bank_index.h"
#include "knapsaq/bank/folder_lock.h"

namespace knapsaq {

/// The folder of a bank while it is being built: made if it does not exist, and locked against other
/// processes until this object goes.
class BankFolder {
 public:
  /// Throws IoError if the folder cannot be made or another process builds in it, UsageError if it exists and
  /// is not a bank's, InputError for a damaged index; the folder is left as it was then. Removes what a
  /// process that was killed left half-written.
  explicit BankFolder(std::filesystem::path path);
  /// Removes the folder again if it was made here and nothing came into it.
  ~BankFolder();
  BankFolder(const BankFolder&) = delete;
  BankFolder& operator=(const BankFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Where a calibration that was made for this bank is kept.
  std::filesystem::path calibration() const { return path_ / kBankCalibrationName; }
  /// Where the folding that the bank was built on is kept.
  std::filesystem::path folding() const { return path_ / kBankFoldingName; }
  /// Whether the bank has its index: what it is built from is settled.
  bool is_begun() const;
  /// Throws UsageError, saying what is different, if the folder holds the bank of another model or with other
  /// schemes than these.
  void check(std::string_view model, const Menu& menu) const;
  /// The same for everything else that a bank is built from; writes the index if there is none, and sees
  /// to the folder of the linears' files.
  void claim(const BankIndex& index) const;

 private:
  bool is_new_;
  std::filesystem::path path_;
  FolderLock lock_;
};

}  // namespace knapsaq
