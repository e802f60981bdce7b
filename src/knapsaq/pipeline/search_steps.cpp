#include "knapsaq/pipeline/search_steps.h"

#include <algorithm>
#include <memory>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/search/goal.h"
#include "knapsaq/search/search_identity.h"
#include "knapsaq/search/stop_file.h"
#include "knapsaq/search/strategy.h"

namespace knapsaq {
namespace {

/// A strategy with what it was made from, which has to outlive it.
struct Prepared {
  StrategySetup setup;
  std::unique_ptr<Goal> goal;
  std::string identity;
  std::unique_ptr<Strategy> strategy;
};

Prepared prepare(const StrategyOptions& options, const SearchSpace& space, Divergence divergence,
                 std::int64_t windows, std::optional<Budget> budget) {
  const StrategyInfo& info = find_strategy(options.strategy);
  OptionValues values(info.options);
  for (const std::string& assignment : options.set) values.set(assignment);
  Prepared result;
  StrategySetup& setup = result.setup;
  setup.space = &space;
  setup.divergence = divergence;
  setup.windows = windows;
  setup.seed = options.seed;
  setup.evaluations = options.evaluations;
  setup.budget = budget;
  if (!options.goal.empty()) {
    result.goal = make_goal(options.goal, space, setup.budget, divergence);
    setup.goal = result.goal.get();
  }
  result.identity = search_identity(values, options.evaluations, budget, options.goal);
  result.strategy = info.make(setup, values);
  return result;
}

}  // namespace

void check_search(const StrategyOptions& options, const SearchSpace& space, std::optional<Budget> budget) {
  prepare(options, space, Divergence::kl, 1, budget);
}

void require_search(const std::filesystem::path& folder, const StrategyOptions& options,
                    const SearchSpace& space, std::optional<Budget> budget) {
  const std::string identity = prepare(options, space, Divergence::kl, 1, budget).identity;
  const auto is_this = [&](const SearchRecord& record) {
    return record.strategy == options.strategy && record.options == identity && record.seed == options.seed;
  };
  if (std::ranges::none_of(read_searches(folder), is_this))
    throw UsageError(fmt::format(
        "{}: has no such search that could be resumed: leave out --resume to start it", folder.string()));
}

SearchReport run_search(Run& run, Evaluators& evaluators, const StrategyOptions& options,
                        std::optional<Budget> budget, Listener& listener) {
  Evaluator& evaluator = evaluators.of(kSearchSet);
  const Prepared search =
      prepare(options, run.space(), run.settings().divergence, evaluator.windows(), budget);
  const SearchRecord record = run.archive().search(options.strategy, search.identity, options.seed);
  run.reference_loss(kSearchSet, &evaluator);
  const StopFile stop(run.folder());
  const SearchScope scope(listener,
                          {&run.space(), run.settings().divergence, options.strategy, budget, true});
  return run_search(
      *search.strategy, search.setup, record, evaluator, run.archive(),
      [&](const SearchStatus& status) { listener.searching(status); }, [&] { return stop.requested(); });
}

SearchSummary summary_of(const SearchReport& report) {
  return {report.evaluations, report.measured, report.full_passes, report.seconds};
}

RunEvaluators evaluators_of(Session& session, const Run& run, std::vector<std::string> sets) {
  return RunEvaluators(run, std::move(sets), session.listener(),
                       [&session, &run] { return session.take_decoder(run.settings().precision); });
}

}  // namespace knapsaq
