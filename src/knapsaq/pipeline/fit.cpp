#include "knapsaq/pipeline/fit.h"

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/pipeline/make_report.h"
#include "knapsaq/pipeline/open_run.h"
#include "knapsaq/pipeline/search_steps.h"
#include "knapsaq/pipeline/stopwatch.h"
#include "knapsaq/pipeline/work_on_run.h"
#include "knapsaq/pipeline/write_selection.h"
#include "knapsaq/report/html_page.h"
#include "knapsaq/search/strategy.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// Canonical; names as people gave them, or made up.
struct Outputs {
  fs::path model;
  fs::path run;
  fs::path report;
  std::string run_name;
  std::string report_name;
};

Outputs plan_outputs(OutputPlan& plan, const Session& session, const FitOptions& options) {
  Outputs outputs;
  plan.reads("the model", session.path());
  outputs.model = plan_result(plan, options.of.engine, options.output, options.force);
  outputs.run_name = options.run;
  if (outputs.run_name.empty()) {
    std::string name = options.output;
    while (name.ends_with('/')) name.pop_back();
    outputs.run_name = (name.ends_with('.') ? outputs.model.string() : name) + ".run";
  }
  const fs::path own_report = fs::path(outputs.run_name) / kReportName;
  outputs.report_name = options.report.empty() ? own_report.string() : options.report;
  plan.allows(own_report);
  outputs.run = plan_run(plan, session, options.of, outputs.run_name);
  outputs.report = plan.file(outputs.report_name, true, is_html_page);
  return outputs;
}

FitResult fit_planned(Session& session, const FitOptions& options, OutputPlan& plan, const Outputs& outputs) {
  const Stopwatch watch;
  Budget budget;
  Run run = open_run(session, options.of, outputs.run, options.budget.bits > 0,
                     [&](const SearchSpace& space, std::int64_t parameters) {
                       budget = resolve(options.budget, space, parameters);
                       check_search(options.search, space, budget);
                     });
  plan.reads("the bank", run.bank().folder());
  SearchReport report;
  Selection selection;
  {
    RunEvaluators evaluators =
        evaluators_of(session, run, {std::string(kSearchSet), std::string(kHeldOutSet)});
    report = run_search(run, evaluators, options.search, budget, session.listener());
    selection = choose(run, budget, evaluators, {}, session.listener());
  }
  FitResult result;
  result.model = write_selection(run, selection, {}, outputs.model, options.force, session.listener());
  make_report(run, outputs.report);
  result.search = summary_of(report);
  result.run = outputs.run_name;
  result.report = outputs.report_name;
  if (budget.of == Budget::Of::files) result.budget_bytes = budget.bytes;
  result.seconds = watch.seconds();
  session.environment().status().run_finished(fmt::format("wrote {}", outputs.model.string()));
  return result;
}

}  // namespace

FitResult fit(Session& session, const FitOptions& options) {
  const ExecutionScope scope(session.execution());
  if (!options.budget.given()) throw UsageError("give one of --budget, --bpw and --bits");
  find_strategy(options.search.strategy);
  OutputPlan plan;
  const Outputs outputs = plan_outputs(plan, session, options);
  return work_on_run(session.environment(), [&] { return fit_planned(session, options, plan, outputs); });
}

}  // namespace knapsaq
