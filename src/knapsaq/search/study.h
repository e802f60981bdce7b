#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "knapsaq/search/archive.h"
#include "knapsaq/search/evaluator.h"
#include "knapsaq/search/goal.h"
#include "knapsaq/search/run_search.h"
#include "knapsaq/search/statistics.h"
#include "knapsaq/search/strategy.h"

namespace knapsaq {

/// A strategy of a study.
struct StudyStrategy {
  const StrategyInfo* info = nullptr;
  OptionValues options;
};

/// A comparison of strategies as in the metaheuristic paper: all with the same number of questions, several
/// independent runs each.
struct StudySettings {
  std::vector<StudyStrategy> strategies;
  std::string goal = "paper";  ///< as in make_goal()
  std::int64_t repeats = 10;
  std::uint64_t seed = 1;  ///< run r of every strategy gets seed + r, combined with the strategy's name
  /// Questions of every run, including repeated ones. The default is the paper's population of 10 with its 10
  /// epochs and the first population.
  std::int64_t evaluations = 110;
};

/// One search of a study. Its outcome is the best point, by the goal, that it asked for on all windows.
struct StudyRun {
  std::uint64_t seed = 0;
  /// Least goal value after every question (including repeated ones), so that curves of equal budgets have
  /// equal lengths; NaN until a point has a value (see Goal).
  std::vector<double> curve;
  Point point;
  std::vector<double> bits;  ///< b1 for every variable
  double goal = 0;           ///< the curve's last value
  double fitness = 0;        ///< the paper's, whatever the goal is
  Measurement measurement;   ///< of the point, without per_token
  double sum_bits = 0;
  double bits_per_weight = 0;      ///< metadata included
  std::uint64_t linear_bytes = 0;  ///< of the linears' tensors
  std::uint64_t bytes = 0;         ///< of the files that would be written
  std::int64_t distinct = 0;       ///< different points that it asked for
  double full_passes = 0;          ///< cost of these, as if nothing had been known before
  double seconds = 0;              ///< wall time; points that an earlier run had measured took none
};

/// All runs of one strategy.
struct StudyGroup {
  std::string strategy;
  std::string options;
  std::vector<StudyRun> runs;
  Spread goal;  ///< of the runs' outcomes
  Spread fitness;
  Spread perplexity;
  Spread divergence;  ///< the setup's
  Spread sum_bits;
  Spread full_passes;
  std::vector<Spread> band;  ///< of the curves, for every question; count 0 where a curve has no value yet
};

/// Two strategies compared by the goal values of their runs' outcomes.
struct StudyTest {
  std::size_t a = 0;  ///< index into Study::groups; a < b
  std::size_t b = 0;
  RankSum rank_sum;
  double holm = 1;  ///< rank_sum.p adjusted for all pairs of the study
  MannWhitney mann_whitney;
  double a_better = 0.5;     ///< probability that a run of `a` ends lower than one of `b`: Vargha-Delaney
  double rank_biserial = 0;  ///< 2 a_better - 1
};

/// A model that no search found: NF4, AWQ at 4 bits, everything at 2, 3 or 4 bits. The caller of the study
/// measures it, on the same text.
struct StudyBaseline {
  std::string name;
  double bits_per_weight = 0;
  std::uint64_t bytes = 0;  ///< of the written files
  double sum_bits = 0;      ///< b1 summed over the study's variables
  double perplexity = 0;
  double fitness = 0;                ///< paper_fitness(perplexity, sum_bits)
  std::optional<double> divergence;  ///< the setup's, if it was measured
};

struct Study {
  std::string goal;  ///< Goal's name: "paper", "budget"
  Divergence divergence = Divergence::kl;
  std::optional<Budget> budget;
  std::int64_t repeats = 0;
  std::int64_t evaluations = 0;
  std::uint64_t seed = 0;
  std::int64_t tokens = 0;  ///< number of tokens behind the means of perplexity and divergence
  std::vector<StudyGroup> groups;
  std::vector<StudyTest> tests;  ///< all pairs
  std::vector<StudyBaseline> baselines;
};

/// Receives the progress of a study: which run (0, 1, ..) of how many, of which strategy, and its progress.
using StudyListener = std::function<void(std::int64_t run, std::int64_t runs, std::string_view strategy,
                                         const SearchStatus& status)>;

/// Runs every strategy with every seed as a search of `archive` and compares the outcomes. Runs take turns
/// (all strategies with the first seed, then with the second), so that a killed study has equally many of
/// each; called again, it continues. `setup` provides space, divergence, windows and budget; its seed,
/// evaluations and goal are the study's. The baselines are passed on unchanged. Throws UsageError for fewer
/// than two repeats, no strategies, or one that appears twice with the same options; Cancelled.
Study run_study(const StudySettings& settings, const StrategySetup& setup, Evaluator& evaluator,
                Archive& archive, std::vector<StudyBaseline> baselines, const StudyListener& listener = {});

/// Summaries and tests from the runs alone: the last step of run_study().
void summarize(Study& study);

}  // namespace knapsaq
