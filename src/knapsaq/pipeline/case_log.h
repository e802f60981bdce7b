#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/pipeline/case_result.h"

namespace knapsaq {

/// The finished cases of one comparison in a CSV file, one row each. A row is on the disk before add()
/// returns, so a killed comparison continues with the first missing case.
class CaseLog {
 public:
  /// Reads `path` if it exists, to continue it; a last row that a kill cut short does not count. Nothing is
  /// written before the first add(). `run` distinguishes this comparison (model, text, protocol) from others:
  /// rows of another one are refused with InputError, as is a file that is not such a CSV. Every task has a
  /// column of its name, followed by their average.
  CaseLog(std::filesystem::path path, std::string run, std::vector<std::string> tasks = {});
  /// Null for a missing case.
  const CaseResult* find(std::string_view method, std::string_view configuration) const;
  /// Throws IoError if the row cannot be written.
  void add(const CaseResult& result);
  const std::vector<CaseResult>& results() const { return results_; }

 private:
  std::filesystem::path path_;
  std::string begin_;  ///< required content of the file before a row is added; empty: it is already there
  std::string run_;
  std::vector<std::string> tasks_;
  std::vector<CaseResult> results_;
};

}  // namespace knapsaq
