#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/units.h"
#include "knapsaq/search/strategy.h"
#include "run_options.h"
#include "run_view.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  RunOptions run;
  BudgetOptions budget;
  SearchOptions search;
  bool resume = false;
};

/// `--resume`: only what was begun is gone on with.
void require_begun(const Options& options) {
  if (!has_run(options.run.folder))
    throw UsageError(fmt::format("{}: holds no run that could be resumed: leave out --resume to start one",
                                 options.run.run));
}

void run(Options& options) {
  start(options.common);
  OutputPlan plan;
  plan_run(plan, options.run);
  find_strategy(options.search.strategy);
  if (options.resume) require_begun(options);
  std::optional<Budget> budget;
  options.run.keep_ends = options.budget.bits > 0;
  Run run = find_run(options.run, [&](const SearchSpace& space, std::int64_t parameters) {
    if (options.budget.given()) budget = parse_budget(options.budget, space, parameters);
    check_search(options.search, space, budget);
    if (options.resume) require_search(options.run.folder, options.search, space, budget);
  });
  const std::unique_ptr<Evaluator> evaluator = run.evaluator(kSearchSet, progress());
  const SearchReport report = run_search(run, *evaluator, options.search, budget);

  const RunView view(run, {report.search});
  if (options.common.json) {
    nlohmann::ordered_json json = {{"model", options.run.model},          {"run", options.run.run},
                                   {"strategy", options.search.strategy}, {"seed", options.search.seed},
                                   {"evaluations", report.evaluations},   {"measured", report.measured},
                                   {"full_passes", report.full_passes},   {"hypervolume", view.hypervolume()},
                                   {"front", view.front().size()},        {"seconds", report.seconds}};
    print(json);
    return;
  }
  for (const std::string& line : view.remarks(report.search)) fmt::print("{}\n", line);
  fmt::print(
      "{} seed {}: {} evaluations ({} measured now), {:.1f} full passes, front of {} points, hypervolume "
      "{:.5f}, {}\n",
      options.search.strategy, options.search.seed, report.evaluations, report.measured, report.full_passes,
      view.front().size(), view.hypervolume(), format_seconds(report.seconds));
  fmt::print("`knapsaq front {0}` shows the front, `knapsaq pick {0} --budget SIZE -o OUT` writes a model\n",
             in_shell(options.run.run));
}

}  // namespace

void add_search(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("search", "Search for the front of size against quality");
  verb.option("model", options->run.model, "Model folder in Hugging Face layout, full precision").required();
  verb.option("--run", options->run.run,
              "Folder of the run: bank, archive; a search that was interrupted goes on where it was")
      .required();
  add_search_options(verb, options->search, true);
  verb.option("--goal", options->search.goal,
              "What ga, pso, sa and de look for: budget (divergence within it) or paper (1000 / (PPL x "
              "sum of bits)); default: budget");
  verb.flag("--amq-faithful", options->search.faithful,
            "amq with the known flaws of its reference code; give --divergence jsd --tokens 8192 too");
  add_budget_options(verb, options->budget);
  verb.flag("--resume", options->resume, "Refuse to start anew: there has to be a run in the folder");
  add_run_options(verb, options->run);
  add_common(verb, options->common);
  verb.example(
      "knapsaq search MODEL --run RUN --strategy front\n  knapsaq search MODEL --run RUN "
      "--strategy amq --seed 1 --set rounds=50");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
