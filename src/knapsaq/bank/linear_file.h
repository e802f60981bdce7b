#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/bank/bank_index.h"
#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/compute/stored_matrix.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/local_errors.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// The file of one matrix in a bank: a safetensors file that holds, for each of S schemes in their order, the
/// tensors of checkpoint/stored_layout.h under the module name "<scheme>" ("gptq:b4g64.weight", ...), then
///   errors      F64 [S, 3 to 5]  LocalErrors of each scheme: fnorm, relative, hessian; of an embedding
///                                lookup too; in a bank with Fisher costs fisher too, last; NaN: unknown
///   statistics  F64 [6]          WeightStatistics
///   checksums   U8  [S + 2, 32]  of each scheme's tensors, then of errors and statistics, then the key: 32
///                                hexadecimal digits each, XXH3-128 of the key and the bytes of the tensors
/// The `key` (32 digits) says which linear of which bank this is; see BankIndex::key.
struct LinearFileLayout {
  std::string key;
  std::int64_t out = 0;
  std::int64_t in = 0;
  std::vector<Scheme> schemes;  ///< each once
  bool looked_up = false;       ///< Matrix::is_looked_up()
  bool fisher = false;          ///< BankIndex::fisher

  std::vector<TensorSpec> tensors() const;
};

/// The required content of a matrix's file.
LinearFileLayout layout_of(const BankIndex& index, const BankedLinear& banked);

/// Writes the file front to back: one scheme at a time is in memory.
class LinearFileWriter {
 public:
  LinearFileWriter(const std::filesystem::path& path, LinearFileLayout layout);
  /// The next scheme's.
  void add(const StoredMatrix& stored, const LocalErrors& errors);
  /// Finishes the file and gives it its name.
  void commit(const WeightStatistics& statistics);

 private:
  LinearFileLayout layout_;
  SafetensorsWriter writer_;
  std::vector<double> numbers_;
  std::string checksums_;
};

/// Such a file, mapped.
class LinearFile {
 public:
  /// Throws IoError or InputError, naming the file, unless it is the file that `layout` describes. The
  /// schemes' tensors are checked when they are requested.
  LinearFile(const std::filesystem::path& path, LinearFileLayout layout);

  const std::vector<Scheme>& schemes() const { return layout_.schemes; }
  const LocalErrors& errors(std::size_t scheme) const { return errors_[scheme]; }
  const WeightStatistics& statistics() const { return statistics_; }
  /// Throws InputError if the tensors are not those that were written. Releases the file's pages.
  StoredMatrix matrix(std::size_t scheme) const;
  /// Checks all schemes like matrix(), without building the matrices.
  void verify() const;

 private:
  void check_scheme(std::size_t scheme) const;

  LinearFileLayout layout_;
  SafetensorsFile file_;
  std::vector<LocalErrors> errors_;
  WeightStatistics statistics_;
  std::vector<std::string> checksums_;
};

}  // namespace knapsaq
