#pragma once

#include <filesystem>
#include <optional>

#include "knapsaq/pipeline/search.h"
#include "knapsaq/search/run.h"
#include "knapsaq/search/run_evaluators.h"
#include "knapsaq/search/run_search.h"

namespace knapsaq {

/// Throws UsageError for unknown strategies, and for options, goals and budgets that the strategy cannot use
/// in this space.
void check_search(const StrategyOptions& options, const SearchSpace& space, std::optional<Budget> budget);
/// Throws UsageError unless the run in the folder has begun this search. Changes nothing.
void require_search(const std::filesystem::path& folder, const StrategyOptions& options,
                    const SearchSpace& space, std::optional<Budget> budget);
/// Runs the search; the listener hears how it goes.
SearchReport run_search(Run& run, Evaluators& evaluators, const StrategyOptions& options,
                        std::optional<Budget> budget, Listener& listener);
SearchSummary summary_of(const SearchReport& report);

/// The evaluators of a run on the session's decoder. Session and run must outlive them.
RunEvaluators evaluators_of(Session& session, const Run& run, std::vector<std::string> sets);

/// Tells the listener of a search as long as it lasts.
class SearchScope {
 public:
  SearchScope(Listener& listener, const SearchView& view) : listener_(listener) {
    listener_.search_begins(view);
  }
  ~SearchScope() { listener_.search_ends(); }
  SearchScope(const SearchScope&) = delete;
  SearchScope& operator=(const SearchScope&) = delete;

 private:
  Listener& listener_;
};

}  // namespace knapsaq
