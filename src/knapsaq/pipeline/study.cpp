#include "knapsaq/pipeline/study.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/bank/find_folding.h"
#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/partial_output.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/pipeline/case_log.h"
#include "knapsaq/pipeline/comparison.h"
#include "knapsaq/pipeline/found_inputs.h"
#include "knapsaq/pipeline/open_run.h"
#include "knapsaq/pipeline/search_steps.h"
#include "knapsaq/pipeline/work_on_run.h"
#include "knapsaq/report/study_report.h"
#include "knapsaq/search/goal.h"
#include "knapsaq/search/uniform.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

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
std::vector<StudyStrategy> strategies_of(const StudyOptions& options) {
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

/// The uniform points of the space. What was measured before is in the archive.
std::vector<StudyBaseline> uniform_baselines(Run& run, Evaluator& evaluator) {
  std::vector<StudyBaseline> result;
  const SearchSpace& space = run.space();
  Archive& archive = run.archive();
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
  return result;
}

/// NF4, and AWQ at 4 bits: what the paper compares with. What was scored before is in the run's folder.
std::vector<StudyBaseline> written_baselines(Session& session, const CalibrationOptions& calibration,
                                             const Run& run) {
  std::vector<StudyBaseline> result;
  const TokenSet& tokens = run.settings().search;
  const auto backend = make_backend({.precision = run.settings().precision});
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
  std::unique_ptr<InputSource> inputs;
  std::optional<Samples> samples;
  for (const ComparisonCase& one : cases) {
    check_cancelled();
    if (log.find(one.method, one.configuration) == nullptr) {
      if (needs_statistics(one)) {
        inputs = FoundInputs(session, calibration, run.folder() / kStudyCalibrationName).get();
        samples = calibration_samples(session, calibration, kFoldingTokens);
        setup.inputs = inputs.get();
        setup.samples = &*samples;
      }
      log.add(Comparison(setup).measure(one, session.listener()));
    }
    const CaseResult& found = *log.find(one.method, one.configuration);
    const double sum = uniform_sum(run.space(), 4);
    result.push_back({one.method + (one.configuration.empty() ? "" : " " + one.configuration), found.bits,
                      found.bytes, sum, found.perplexity, paper_fitness(found.perplexity, sum),
                      std::nullopt});
  }
  return result;
}

/// Tells the listener of the searches of a study, one after another.
class StudyScopes {
 public:
  StudyScopes(Listener& listener, SearchView view) : listener_(listener), view_(std::move(view)) {}

  void show(std::int64_t number, std::int64_t runs, std::string_view strategy, const SearchStatus& status) {
    if (number != shown_) {
      scope_.reset();
      view_.strategy = fmt::format("{} of {}: {}", number + 1, runs, strategy);
      scope_ = std::make_unique<SearchScope>(listener_, view_);
      shown_ = number;
    }
    listener_.searching(status);
  }

 private:
  Listener& listener_;
  SearchView view_;
  std::int64_t shown_ = -1;
  std::unique_ptr<SearchScope> scope_;
};

}  // namespace

RunOptions StudyOptions::paper_run() {
  RunOptions options;
  options.menu = "b2g64,b3g64,b4g64";
  options.method = "rtn";
  options.ties = "layer";
  return options;
}

StudyResult study(Session& session, const StudyOptions& options) {
  const ExecutionScope scope(session.execution());
  StudySettings settings;
  settings.strategies = strategies_of(options);
  settings.goal = options.goal;
  settings.repeats = options.repeats;
  settings.seed = options.seed;
  settings.evaluations = options.evaluations;
  if (options.goal == "budget" && !options.budget.given())
    throw UsageError("--goal budget needs --budget or --bits");
  check(options.budget);
  OutputPlan plan;
  const fs::path folder = plan_run(plan, session, options.of, options.run);
  check_calibration_place(folder / kStudyCalibrationName);
  return work_on_run(session.environment(), [&] {
    std::optional<Budget> budget;
    Run run = open_run(session, options.of, folder, options.budget.bits > 0,
                       [&](const SearchSpace& space, const ModelConfig& config, const std::string& engine) {
                         if (!options.budget.given()) return;
                         budget = resolve(options.budget, space, config, engine);
                         tell_file_budget(session.listener(), options.budget, config, engine);
                       });
    // AWQ's text, where it is the model's own, is sampled by the model as it came: before candidates take its
    // place.
    std::vector<StudyBaseline> written = written_baselines(session, options.of.calibration, run);
    RunEvaluators evaluators = evaluators_of(session, run, {std::string(kSearchSet)});
    Evaluator& evaluator = evaluators.of(kSearchSet);
    std::vector<StudyBaseline> baselines = uniform_baselines(run, evaluator);
    std::ranges::move(written, std::back_inserter(baselines));

    StrategySetup setup;
    setup.space = &run.space();
    setup.divergence = run.settings().divergence;
    setup.windows = evaluator.windows();
    setup.budget = budget;
    StudyScopes scopes(session.listener(), {&run.space(), setup.divergence, {}, setup.budget});
    Study study = run_study(settings, setup, evaluator, run.archive(), std::move(baselines),
                            [&](std::int64_t number, std::int64_t runs, std::string_view strategy,
                                const SearchStatus& status) { scopes.show(number, runs, strategy, status); });
    write_study(study, run.space(), run.folder());
    session.environment().status().run_finished("study finished");
    return StudyResult{folder, std::move(study), run.space()};
  });
}

}  // namespace knapsaq
