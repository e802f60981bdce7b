#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "knapsaq/eval/windows.h"
#include "knapsaq/pipeline/calibrate.h"
#include "knapsaq/pipeline/case_result.h"
#include "knapsaq/pipeline/task_options.h"

namespace knapsaq {

/// A model quantized in many ways, each of them scored.
struct CompareOptions {
  std::string text;    ///< file that is scored
  std::string output;  ///< CSV with a row for every finished case; empty: none is kept
  std::vector<std::string> methods = {"rtn", "hqq", "nf4", "gptq", "awq", "mxq"};
  /// Schemes without their method: what every uniform method is tried with.
  std::vector<std::string> configurations = {"b4g128", "b4g64", "b3g128", "b3g64", "b2g64"};
  std::string budgets =
      "2.5,2.75,3.13,3.25,4.13,4.25";  ///< bits per weight for mxq; a list, or FIRST:LAST:STEP
  std::string menu = "mxq";            ///< schemes that mxq chooses from
  std::string protocol = "gptq";       ///< of the windows
  WindowOptions windows;
  /// Text, windows and seed for gptq and awq, and the precision of all forward passes. Without folder.
  CalibrationOptions calibration;
  TaskOptions tasks;
};

struct CompareResult {
  std::vector<CaseResult> cases;
  std::vector<std::string> tasks;  ///< whose scores the cases have
  std::int64_t window = 0;         ///< tokens
  std::size_t text_tokens = 0;
};

/// Hears the names of the tasks that the cases will have scores of, before the first case.
using TasksSink = std::function<void(const std::vector<std::string>& tasks)>;
/// Hears of every case as it is finished, also of those that the CSV had.
using CaseSink = std::function<void(const CaseResult& one)>;

/// A comparison that was stopped goes on with its CSV. Throws UsageError for what cannot be, before any work;
/// Cancelled. `begins` is called when everything that can be refused has been, before the first case.
CompareResult compare(Session& session, const CompareOptions& options, const TasksSink& begins = {},
                      const CaseSink& sink = {});

}  // namespace knapsaq
