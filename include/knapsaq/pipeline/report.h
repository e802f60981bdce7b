#pragma once

#include <filesystem>
#include <string>

#include "knapsaq/pipeline/environment.h"

namespace knapsaq {

struct ReportOptions {
  std::string run;     ///< folder of a run, also of one that is being written
  std::string model;   ///< where the model is now; empty: where it was
  std::string output;  ///< HTML file; an older page is replaced
};

/// Writes a self-contained page about a run; returns where it is. Throws UsageError for an output that would
/// replace something else.
std::filesystem::path report(Environment& environment, const ReportOptions& options);

}  // namespace knapsaq
