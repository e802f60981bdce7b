#pragma once

#include <optional>
#include <string>
#include <vector>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/report/report_data.h"
#include "knapsaq/search/archive.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// What a report is made from. Pointers outlive the call only.
struct ReportSources {
  const Archive* archive = nullptr;
  const SearchSpace* space = nullptr;
  const ErrorTable* table = nullptr;  ///< the bank's, of the space's linears: blocks, weights' statistics
  Divergence divergence = Divergence::kl;
  std::int64_t windows = 0;  ///< of the token set of the search
  std::int64_t tokens = 0;   ///< scored tokens of it
  ReportModel model;
  std::string run;                   ///< folder of the run, as the user wrote it: for the command
  std::optional<ReportStudy> study;  ///< parse_study()
  std::vector<TaskScores> tasks;     ///< read_task_scores()
};

/// Everything that is known of a run by now; also of one that is being written. Points that were measured by
/// nobody's question (the guard's) are not among those of searches.
ReportData collect_report(ReportSources sources);

}  // namespace knapsaq
