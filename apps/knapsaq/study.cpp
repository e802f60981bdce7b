#include "knapsaq/search/study.h"

#include <algorithm>
#include <filesystem>
#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/bank/find_folding.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/partial_output.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/units.h"
#include "knapsaq/report/case_log.h"
#include "knapsaq/report/comparison.h"
#include "knapsaq/report/study_report.h"
#include "knapsaq/search/goal.h"
#include "knapsaq/search/uniform.h"
#include "run_options.h"
#include "search_display.h"

namespace knapsaq::command {
namespace {

namespace fs = std::filesystem;

struct Options {
  Common common;
  RunOptions run;
  BudgetOptions budget;
  std::vector<std::string> strategies = {"ga", "pso", "sa", "de"};
  std::vector<std::string> set;
  std::string goal = "paper";
  StudySettings settings;
};

/// "pso.inertia=0.5" is for one strategy, "population=20" for all that have it.
struct Assignment {
  std::string strategy;  ///< empty: all
  std::string name;
  std::string text;  ///< "inertia=0.5"
};
Assignment parse_assignment(const std::string& text) {
  const std::size_t equals = text.find('=');
  const std::size_t dot = std::min(text.find('.'), text.size());
  const std::size_t begin = dot < std::min(equals, text.size()) ? dot + 1 : 0;
  return {text.substr(0, begin == 0 ? 0 : dot), text.substr(begin, equals - begin), text.substr(begin)};
}

bool concerns(const Assignment& assignment, const StrategyInfo& info) {
  if (!assignment.strategy.empty()) return assignment.strategy == info.name;
  return std::ranges::find(info.options, assignment.name, &StrategyOption::name) != info.options.end();
}

/// Strategies with what is set of each. Throws UsageError for what is set of none.
std::vector<StudyStrategy> strategies_of(const Options& options) {
  std::vector<StudyStrategy> result;
  for (const std::string& name : options.strategies)
    result.push_back({&find_strategy(name), OptionValues(find_strategy(name).options)});
  for (const std::string& text : options.set) {
    const Assignment assignment = parse_assignment(text);
    bool used = false;
    for (StudyStrategy& strategy : result) {
      if (!concerns(assignment, *strategy.info)) continue;
      strategy.options.set(assignment.text);
      used = true;
    }
    if (!used)
      throw UsageError(
          fmt::format("--set {}: none of the study's strategies has that constant; `knapsaq "
                      "strategies` lists them",
                      in_quotes(text)));
  }
  return result;
}

/// Sum of b1 over the variables if every linear had so many bits.
double uniform_sum(const SearchSpace& space, double bits) {
  return bits * static_cast<double>(space.variables.size());
}

/// The uniform points of the space, NF4, and AWQ at 4 bits: what the paper compares with. What was scored
/// before is in the run's folder.
std::vector<StudyBaseline> baselines(const Options& options, const Run& run, Evaluator& evaluator,
                                     Archive& archive) {
  std::vector<StudyBaseline> result;
  const SearchSpace& space = run.space();
  const std::int64_t windows = evaluator.windows();
  const std::vector<Point> uniform = uniform_points(space);
  std::vector<Point> missing;
  for (const Point& point : uniform)
    if (!archive.find(kSearchSet, point, windows)) missing.push_back(point);
  evaluator.measure(missing, {0, windows}, [&](std::size_t index, const Measurement& measurement) {
    archive.add(kSearchSet, missing[index], measurement, 0);
  });
  for (const Point& point : uniform) {
    const Measurement measured = archive.find(kSearchSet, point, windows).value();
    const double sum = sum_bits(space, point);
    result.push_back({"uniform " + to_string(space.allocation(point).front()), space.bits(point),
                      space.bytes(point), sum, measured.perplexity(),
                      paper_fitness(measured.perplexity(), sum), measured.value(run.settings().divergence)});
  }

  const TokenSet& tokens = run.settings().search;
  const auto backend = make_cpu_backend(run.settings().precision);
  ComparisonSetup setup;
  setup.checkpoint = &run.checkpoint();
  setup.config = &run.config();
  setup.fingerprint = run.settings().model;
  setup.backend = backend.get();
  setup.tokens = tokens.tokens;
  setup.windows = {.protocol = Protocol::gptq, .window = tokens.length};
  setup.work = run.folder();
  setup.menu = run.bank().index().menu;
  const std::vector<ComparisonCase> cases = {{"nf4", ""}, {"awq", "b4g128"}};
  CaseLog log(run.folder() / "baselines.csv",
              hash_hex(fmt::format("{} {} {} {}", setup.fingerprint, backend->description(), tokens.length,
                                   hash_hex(std::as_bytes(std::span(tokens.tokens)))))
                  .substr(0, 16));
  remove_leftovers(setup.work / kComparedModelName);
  std::unique_ptr<InputSource> calibration;
  std::optional<Samples> samples;
  for (const ComparisonCase& one : cases) {
    check_cancelled();
    if (log.find(one.method, one.configuration) == nullptr) {
      if (needs_statistics(one)) {
        calibration = FoundInputs(run.checkpoint(), run.config(), setup.fingerprint, options.run.calibration,
                                  run.folder() / kStudyCalibrationName)
                          .get();
        samples = calibration_samples(run.checkpoint(), run.config(), options.run.calibration, *backend,
                                      kFoldingTokens);
        setup.inputs = calibration.get();
        setup.samples = &*samples;
      }
      log.add(Comparison(setup).measure(one, progress()));
    }
    const CaseResult& found = *log.find(one.method, one.configuration);
    const double sum = uniform_sum(space, 4);
    result.push_back({one.method + (one.configuration.empty() ? "" : " " + one.configuration), found.bits,
                      found.bytes, sum, found.perplexity, paper_fitness(found.perplexity, sum),
                      std::nullopt});
  }
  return result;
}

void run(Options& options) {
  start(options.common);
  options.settings.strategies = strategies_of(options);
  if (options.goal == "budget" && !options.budget.given())
    throw UsageError("--goal budget needs --budget or --bits");
  OutputPlan plan;
  plan_run(plan, options.run);
  check_calibration_place(options.run.folder / kStudyCalibrationName);
  std::optional<Budget> budget;
  options.run.keep_ends = options.budget.bits > 0;
  Run run = find_run(options.run, [&](const SearchSpace& space, std::int64_t parameters) {
    if (options.budget.given()) budget = parse_budget(options.budget, space, parameters);
  });
  const std::unique_ptr<Evaluator> evaluator = run.evaluator(kSearchSet, progress());

  StrategySetup setup;
  setup.space = &run.space();
  setup.divergence = run.settings().divergence;
  setup.windows = evaluator->windows();
  setup.budget = budget;
  options.settings.goal = options.goal;

  std::unique_ptr<SearchDisplay> display;
  std::int64_t shown = -1;
  const Study study = run_study(
      options.settings, setup, *evaluator, run.archive(), baselines(options, run, *evaluator, run.archive()),
      [&](std::int64_t number, std::int64_t runs, std::string_view strategy, const SearchStatus& status) {
        if (number != shown)
          display = std::make_unique<SearchDisplay>(run.space(), setup.divergence,
                                                    fmt::format("{} of {}: {}", number + 1, runs, strategy),
                                                    setup.budget);
        shown = number;
        display->show(status);
      });
  display.reset();
  write_study(study, run.space(), run.folder());
  if (options.common.json) {
    print(study_json(study, run.space()));
    return;
  }
  fmt::print("{}", study_table(study));
  fmt::print("{}: study.json, runs.csv, curves.csv, tests.csv\n", options.run.run);
}

}  // namespace

void add_study(CommandLine& app) {
  auto options = std::make_shared<Options>();
  // The metaheuristic paper's setting: one choice for a whole layer, 2, 3 or 4 bits, plain rounding.
  options->run.menu = "b2g64,b3g64,b4g64";
  options->run.method = "rtn";
  options->run.ties = "layer";
  const Verb verb =
      app.add("study", "Compare search strategies by repeated runs, as the metaheuristic paper does");
  verb.option("model", options->run.model, "Model folder in Hugging Face layout, full precision").required();
  verb.option("--run", options->run.run, "Folder of the study; one that was interrupted goes on where it was")
      .required();
  verb.option("--strategies", options->strategies, "Strategies, with commas")
      .separated_by(',')
      .show_default();
  verb.option("--repeats", options->settings.repeats, "Independent runs of each")
      .range(2, 100'000)
      .show_default();
  verb.option("--evaluations", options->settings.evaluations,
              "Questions of every run; the paper's population of 10 with 10 epochs asks 110")
      .range(2, std::int64_t{1} << 40)
      .show_default();
  verb.option("--seed", options->settings.seed, "Seed of the first runs; the next ones get the next seeds")
      .range(0)
      .show_default();
  verb.option("--set", options->set,
              "A constant, as population=20 for all strategies or pso.inertia=0.5 for one");
  verb.option("--goal", options->goal,
              "paper: 1000 / (PPL x sum of bits); budget: divergence within --budget or --bits")
      .one_of({"paper", "budget"})
      .show_default();
  add_budget_options(verb, options->budget);
  add_run_options(verb, options->run);
  add_common(verb, options->common);
  verb.example(
      "knapsaq study MODEL --strategies ga,pso,sa,de --repeats 10 --text wiki.test.raw --run "
      "STUDY");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
