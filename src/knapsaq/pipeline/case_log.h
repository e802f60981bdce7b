#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/pipeline/case_result.h"

namespace knapsaq {

/// The finished cases of one comparison in a CSV file, one row each. A row is on the disk before add()
/// returns, so a killed comparison goes on with the first case that is missing.
class CaseLog {
 public:
  /// Reads `path` if it is there, to go on with it; a last row that a kill cut short does not count. Nothing
  /// is written before the first add(). `run` tells this comparison (model, text, protocol) from others: rows
  /// of another one are refused with InputError, as is a file that is no such CSV. Every task has a column of
  /// its name, and their average one.
  CaseLog(std::filesystem::path path, std::string run, std::vector<std::string> tasks = {});
  /// Null for a case that is not there yet.
  const CaseResult* find(std::string_view method, std::string_view configuration) const;
  /// Throws IoError if the row cannot be written.
  void add(const CaseResult& result);
  const std::vector<CaseResult>& results() const { return results_; }

 private:
  std::filesystem::path path_;
  std::string begin_;  ///< what the file has to hold before a row is added; empty: it does
  std::string run_;
  std::vector<std::string> tasks_;
  std::vector<CaseResult> results_;
};

}  // namespace knapsaq
