#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "knapsaq/pipeline/budget.h"
#include "knapsaq/pipeline/run_options.h"
#include "knapsaq/search/study.h"

namespace knapsaq {

/// A comparison of strategies by repeated runs, as the metaheuristic paper makes it.
struct StudyOptions {
  std::string run;  ///< folder; a study that was interrupted goes on where it was
  RunOptions of = paper_run();
  std::vector<std::string> strategies = {"ga", "pso", "sa", "de"};
  /// Constants: "population=20" for all strategies that have it, "pso.inertia=0.5" for one.
  std::vector<std::string> set;
  std::string goal = "paper";  ///< "paper": 1000 / (PPL x sum of bits); "budget": divergence within `budget`
  BudgetOptions budget;
  std::int64_t repeats = StudySettings().repeats;          ///< independent runs of each strategy
  std::uint64_t seed = StudySettings().seed;               ///< of the first runs
  std::int64_t evaluations = StudySettings().evaluations;  ///< questions of every run

  /// The paper's setting: one choice for a whole layer, 2, 3 or 4 bits, plain rounding.
  static RunOptions paper_run();
};

struct StudyResult {
  std::filesystem::path run;
  Study study;
  SearchSpace space;
};

/// Runs the searches, and writes study.json, runs.csv, curves.csv and tests.csv into the run's folder. Throws
/// UsageError for what cannot be, before any work; Cancelled.
StudyResult study(Session& session, const StudyOptions& options);

}  // namespace knapsaq
