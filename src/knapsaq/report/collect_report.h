#pragma once

#include <optional>
#include <string>
#include <vector>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/report/report_data.h"
#include "knapsaq/search/archive.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// The sources of a report. Pointers must be valid during the call only.
struct ReportSources {
  const Archive* archive = nullptr;
  const SearchSpace* space = nullptr;
  const ErrorTable* table = nullptr;  ///< the bank's, of the space's linears: blocks, weights' statistics
  Divergence divergence = Divergence::kl;
  std::int64_t windows = 0;  ///< of the token set of the search
  std::int64_t tokens = 0;   ///< scored tokens of it
  ReportModel model;
  std::string run;                    ///< folder of the run, as the user wrote it: for the shown command
  std::optional<ReportStudy> study;   ///< parse_study()
  std::vector<WrittenSteps> written;  ///< read_written_steps()
  std::vector<TaskScores> tasks;      ///< read_task_scores()
};

/// Everything that is known of a run so far, also while it is being written. Points that no search asked for
/// (the guard's) are not listed under searches.
ReportData collect_report(ReportSources sources);

}  // namespace knapsaq
