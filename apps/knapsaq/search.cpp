#include "knapsaq/pipeline/search.h"

#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "budget_flags.h"
#include "command.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/units.h"
#include "run_flags.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  RunFlags run;
  BudgetFlags budget;
  SearchOptions search;
  bool faithful = false;  ///< --amq-faithful
};

void run(const Options& options) {
  SearchOptions search = options.search;
  search.of = run_options(options.run);
  search.budget = budget_of(options.budget);
  if (options.faithful) search.search.set.emplace_back("faithful=1");
  Environment environment(environment_options(options.common));
  Session session(environment, options.model, Session::Weights::decoded);
  const SearchResult result = knapsaq::search(session, search);

  const StrategyOptions& how = search.search;
  const SearchSummary& summary = result.search;
  if (options.common.json) {
    print({{"model", options.model},
           {"run", search.run},
           {"strategy", how.strategy},
           {"seed", how.seed},
           {"evaluations", summary.evaluations},
           {"measured", summary.measured},
           {"full_passes", summary.full_passes},
           {"hypervolume", result.hypervolume},
           {"front", result.front},
           {"seconds", summary.seconds}});
    return;
  }
  for (const std::string& line : result.remarks) fmt::print("{}\n", line);
  fmt::print(
      "{} seed {}: {} evaluations ({} measured now), {:.1f} full passes, front of {} points, hypervolume "
      "{:.5f}, {}\n",
      how.strategy, how.seed, summary.evaluations, summary.measured, summary.full_passes, result.front,
      result.hypervolume, format_seconds(summary.seconds));
  fmt::print("`knapsaq front {0}` shows the front, `knapsaq pick {0} --budget SIZE -o OUT` writes a model\n",
             in_shell(search.run));
}

}  // namespace

void add_search(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("search", "Search for the front of size against quality");
  verb.option("model", options->model, "Model folder in Hugging Face layout or GGUF file, full precision")
      .required();
  verb.option("--run", options->search.run,
              "Folder of the run: bank, archive; a search that was interrupted goes on where it was")
      .required();
  add_strategy_flags(verb, options->search.search);
  verb.option("--goal", options->search.search.goal,
              "What ga, pso, sa and de look for: budget (divergence within it) or paper (1000 / (PPL x "
              "sum of bits)); default: budget");
  verb.flag("--amq-faithful", options->faithful,
            "amq with the known flaws of its reference code; give --divergence jsd --tokens 8192 too");
  add_budget_flags(verb, options->budget);
  verb.flag("--resume", options->search.resume, "Refuse to start anew: there has to be a run in the folder");
  add_run_flags(verb, options->run);
  add_watch_flag(verb, options->common);
  add_common(verb, options->common);
  verb.example(
      "knapsaq search MODEL --run RUN --strategy front\n  knapsaq search MODEL --run RUN "
      "--strategy amq --seed 1 --set rounds=50");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
