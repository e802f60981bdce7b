#include "knapsaq/pipeline/study.h"

#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "budget_flags.h"
#include "command.h"
#include "knapsaq/report/study_report.h"
#include "run_flags.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  RunFlags run;
  BudgetFlags budget;
  StudyOptions study;
};

void run(const Options& options) {
  StudyOptions study = options.study;
  study.of = run_options(options.run);
  study.budget = budget_of(options.budget);
  Environment environment(environment_options(options.common));
  Session session(environment, options.model, Session::Weights::decoded);
  const StudyResult result = knapsaq::study(session, study);
  if (options.common.json) {
    print(study_json(result.study, result.space));
    return;
  }
  fmt::print("{}", study_table(result.study));
  fmt::print("{}: study.json, runs.csv, curves.csv, tests.csv\n", study.run);
}

}  // namespace

void add_study(CommandLine& app) {
  auto options = std::make_shared<Options>();
  options->run.options = StudyOptions::paper_run();
  const Verb verb =
      app.add("study", "Compare search strategies by repeated runs, as the metaheuristic paper does");
  verb.option("model", options->model, "Model folder in Hugging Face layout or GGUF file, full precision")
      .required();
  verb.option("--run", options->study.run,
              "Folder of the study; one that was interrupted goes on where it was")
      .required();
  verb.option("--strategies", options->study.strategies, "Strategies, with commas")
      .separated_by(',')
      .show_default();
  verb.option("--repeats", options->study.repeats, "Independent runs of each")
      .range(2, 100'000)
      .show_default();
  verb.option("--evaluations", options->study.evaluations,
              "Questions of every run; the paper's population of 10 with 10 epochs asks 110")
      .range(2, std::int64_t{1} << 40)
      .show_default();
  verb.option("--seed", options->study.seed, "Seed of the first runs; the next ones get the next seeds")
      .range(0)
      .show_default();
  verb.option("--set", options->study.set,
              "A constant, as population=20 for all strategies or pso.inertia=0.5 for one");
  verb.option("--goal", options->study.goal,
              "paper: 1000 / (PPL x sum of bits); budget: divergence within --budget or --bits")
      .one_of({"paper", "budget"})
      .show_default();
  add_budget_flags(verb, options->budget);
  add_run_flags(verb, options->run);
  add_watch_flag(verb, options->common);
  add_common(verb, options->common);
  verb.example(
      "knapsaq study MODEL --strategies ga,pso,sa,de --repeats 10 --text wiki.test.raw --run "
      "STUDY");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
