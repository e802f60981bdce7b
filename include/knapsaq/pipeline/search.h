#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "knapsaq/pipeline/budget.h"
#include "knapsaq/pipeline/run_options.h"

namespace knapsaq {

/// Which search, and how much of it.
struct StrategyOptions {
  std::string strategy = "front";  ///< as strategies() knows it
  std::vector<std::string> set;    ///< the strategy's constants, "name=value"
  std::int64_t evaluations = 0;    ///< most measurements; 0: what the constants make of it
  std::uint64_t seed = 0;
  /// What the scalar strategies (ga, pso, sa, de) look for: "budget" or "paper"; empty: "budget".
  std::string goal;
};

struct SearchOptions {
  std::string run;  ///< folder: bank, archive; a search that was interrupted goes on where it was
  RunOptions of;
  StrategyOptions search;
  BudgetOptions budget;  ///< may be left out
  bool resume = false;   ///< refuse to start anew: this search has to have begun in the folder
};

/// What a search did.
struct SearchSummary {
  std::int64_t evaluations = 0;  ///< distinct measurements that it asked for
  std::int64_t measured = 0;     ///< of these, made now
  double full_passes = 0;        ///< their cost, in passes of the whole model over the text
  double seconds = 0;
};
struct SearchResult {
  std::filesystem::path run;
  SearchSummary search;
  double hypervolume = 0;            ///< of what it found, between the space's smallest and largest point
  std::size_t front = 0;             ///< points on its Pareto front
  std::vector<std::string> remarks;  ///< lines for people: what the strategy left out
};

/// Searches for the Pareto front of size against quality. Every measurement is kept as it is made: after a
/// kill the same call goes on. Throws UsageError for what cannot be, before any work; Cancelled.
SearchResult search(Session& session, const SearchOptions& options);

}  // namespace knapsaq
