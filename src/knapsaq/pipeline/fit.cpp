#include "knapsaq/pipeline/fit.h"

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/pipeline/effort.h"
#include "knapsaq/pipeline/improve_selection.h"
#include "knapsaq/pipeline/make_report.h"
#include "knapsaq/pipeline/open_run.h"
#include "knapsaq/pipeline/search_steps.h"
#include "knapsaq/pipeline/stopwatch.h"
#include "knapsaq/pipeline/work_on_run.h"
#include "knapsaq/pipeline/write_selection.h"
#include "knapsaq/report/html_page.h"
#include "knapsaq/report/written_steps.h"
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

WrittenSteps steps_for_report(const WrittenModel& model, Effort effort) {
  WrittenSteps written;
  written.model = model.path.filename().string();
  written.effort = name_of(effort);
  written.bytes = model.bytes;
  written.bits = model.bits;
  for (const WritingStep& step : model.steps)
    written.steps.push_back({.name = step.name,
                             .divergence = step.divergence,
                             .standard_error = step.divergence_standard_error,
                             .perplexity = step.judged.perplexity,
                             .agreement = step.judged.agreement});
  return written;
}

/// Before the work begins.
void tell_cost(Listener& listener, Effort effort, const Run& run, const CalibrationOptions& calibration) {
  const EffortCost cost = cost_of(effort, run, calibration);
  if (cost.codes + cost.tuning == 0) return;
  listener.note(
      fmt::format("effort {}: after the search corrected codes cost about {:.0f} full passes, tuning about "
                  "{:.0f}; --effort quick "
                  "leaves both out",
                  name_of(effort), cost.codes, cost.tuning));
}

FitResult fit_planned(Session& session, const FitOptions& options, OutputPlan& plan, const Outputs& outputs) {
  const Stopwatch watch;
  Budget budget;
  Run run = open_run(session, options.of, outputs.run, options.budget.bits > 0,
                     [&](const SearchSpace& space, const ModelConfig& config, const std::string& engine) {
                       budget = resolve(options.budget, space, config, engine);
                       check_search(options.search, space, budget);
                       tell_file_budget(session.listener(), options.budget, config, engine);
                     });
  plan.reads("the bank", run.bank().folder());
  const Effort effort = parse_effort(options.effort);
  tell_cost(session.listener(), effort, run, options.of.calibration);
  SearchReport report;
  Selection selection;
  {
    RunEvaluators evaluators =
        evaluators_of(session, run, {std::string(kSearchSet), std::string(kHeldOutSet)});
    report = run_search(run, evaluators, options.search, budget, session.listener());
    selection = choose(run, budget, evaluators, {}, session.listener());
  }
  FitResult result;
  result.model = write_improved(session, run, selection, budget, effort, options.of.calibration,
                                outputs.model, options.force);
  result.model.memory = memory_use(options.budget, run.config(), run.settings().engine, result.model.bytes);
  if (!result.model.steps.empty())
    keep_written_steps(steps_for_report(result.model, effort), run.folder(), outputs.model);
  make_report(run, outputs.report);
  result.search = summary_of(report);
  result.run = outputs.run_name;
  result.report = outputs.report_name;
  if (budget.of == Budget::Of::files) result.budget_bytes = options.budget.bytes.value_or(budget.bytes);
  result.seconds = watch.seconds();
  session.environment().status().run_finished(fmt::format("wrote {}", outputs.model.string()));
  return result;
}

}  // namespace

FitResult fit(Session& session, const FitOptions& options) {
  const ExecutionScope scope(session.execution());
  if (!options.budget.given()) throw UsageError("give one of --budget, --bpw and --bits");
  check(options.budget);
  find_strategy(options.search.strategy);
  static_cast<void>(parse_effort(options.effort));
  OutputPlan plan;
  const Outputs outputs = plan_outputs(plan, session, options);
  return work_on_run(session.environment(), [&] { return fit_planned(session, options, plan, outputs); });
}

}  // namespace knapsaq
