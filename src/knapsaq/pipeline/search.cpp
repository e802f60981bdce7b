#include "knapsaq/pipeline/search.h"

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/pipeline/open_run.h"
#include "knapsaq/pipeline/run_front.h"
#include "knapsaq/pipeline/search_steps.h"
#include "knapsaq/pipeline/work_on_run.h"
#include "knapsaq/search/strategy.h"

namespace knapsaq {

SearchResult search(Session& session, const SearchOptions& options) {
  const ExecutionScope scope(session.execution());
  OutputPlan plan;
  const std::filesystem::path folder = plan_run(plan, session, options.of, options.run);
  find_strategy(options.search.strategy);
  check(options.budget);
  if (options.resume && !has_run(folder))
    throw UsageError(
        fmt::format("{}: holds no run that could be resumed: leave out --resume to start one", options.run));
  return work_on_run(session.environment(), [&] {
    std::optional<Budget> budget;
    Run run = open_run(session, options.of, folder, options.budget.bits > 0,
                       [&](const SearchSpace& space, const ModelConfig& config, const std::string& engine) {
                         if (options.budget.given()) {
                           budget = resolve(options.budget, space, config, engine);
                           tell_file_budget(session.listener(), options.budget, config, engine);
                         }
                         check_search(options.search, space, budget);
                         if (options.resume) require_search(folder, options.search, space, budget);
                       });
    RunEvaluators evaluators = evaluators_of(session, run, {std::string(kSearchSet)});
    const SearchReport report = run_search(run, evaluators, options.search, budget, session.listener());
    session.environment().status().run_finished(report.stopped ? "search stopped, as asked for"
                                                               : "search finished");
    const RunFront found(run, {report.search});
    return SearchResult{.run = folder,
                        .search = summary_of(report),
                        .hypervolume = found.hypervolume(),
                        .front = found.points().size(),
                        .remarks = found.remarks(report.search)};
  });
}

}  // namespace knapsaq
