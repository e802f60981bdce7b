#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/bank/bank_index.h"
#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/linear_file.h"
#include "knapsaq/compute/stored_matrix.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/folding.h"

namespace knapsaq {

/// Every linear of a model in every scheme of a menu, quantized once and kept on disk (docs/bank.md describes
/// the folder), opened for reading. Files are memory-mapped; a matrix is copied when it is requested. May be
/// used from several threads.
class Bank {
 public:
  /// Throws IoError or InputError, naming the missing or damaged file, and InputError for an unfinished bank.
  static Bank open(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  const BankIndex& index() const { return index_; }
  /// Throws InputError unless the bank was built from the model with this fingerprint().
  void check_model(std::string_view fingerprint) const;
  /// The same; also throws unless the bank's linears are linears(config) with their shapes, each in the
  /// schemes that the menu has for it.
  void check_model(std::string_view fingerprint, const ModelConfig& config) const;

  /// The scales that are folded into the bank's weights, for the model with this configuration. Callers that
  /// write or run the weights must fold the other tensors. Empty if there are none. Throws InputError if the
  /// file is missing or is not the one with which the bank was built.
  Folding folding(const ModelConfig& config) const;

  /// Errors and exact sizes of all linears, in the order of linears(config).
  ErrorTable table() const;

  /// A linear in one scheme. Throws UsageError, listing what the bank has, for an unknown scheme or linear,
  /// and InputError if its tensors are not those that were written.
  StoredMatrix matrix(std::string_view linear, const Scheme& scheme) const;
  /// The linear's errors and statistics. Same errors.
  const LocalErrors& errors(std::string_view linear, const Scheme& scheme) const;

 private:
  struct Place {
    const LinearFile* file;
    std::size_t scheme;
  };
  Place find(std::string_view linear, const Scheme& scheme) const;

  std::filesystem::path folder_;
  BankIndex index_;
  std::vector<LinearFile> files_;  ///< in the order of index_.linears
  std::map<std::string, std::size_t, std::less<>> places_;
};

}  // namespace knapsaq
