#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace knapsaq {

/// One finished case of a comparison: a model quantized one way, and what was measured of it.
struct CaseResult {
  std::string method;              ///< "rtn", "gptq", "mxq", ...; "none" for the model as it came
  std::string configuration;       ///< a scheme without its method, or MXQ's budget: "b3g64", "3.25"
  double bits = 0;                 ///< average per quantized weight, metadata included
  std::uint64_t bytes = 0;         ///< of all weight files
  std::uint64_t memory = 0;        ///< of all tensors as they are stored: what a low-bit runtime holds
  double perplexity = 0;           ///< on the comparison's text; NaN if the model computes no finite numbers
  double quantize_seconds = 0;     ///< from the full-precision model to the written one, without calibration
  std::vector<double> tasks = {};  ///< what counts of every task of the comparison, see TaskResult::counted()
  double average = 0;              ///< of these; 0 without tasks
  std::string broken = {};         ///< why perplexity and tasks are NaN; for people, not in the CSV
};

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
