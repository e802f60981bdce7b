#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "knapsaq/search/front.h"
#include "knapsaq/search/run_search.h"
#include "knapsaq/search/space.h"

namespace knapsaq::command {

/// One line on standard error, if that is a terminal, that is drawn over while a search runs: phase, size of
/// the front, the best at the budget, evaluations, time left.
class SearchDisplay {
 public:
  SearchDisplay(const SearchSpace& space, Divergence divergence, std::string strategy,
                std::optional<Budget> budget);
  ~SearchDisplay();
  SearchDisplay(const SearchDisplay&) = delete;
  SearchDisplay& operator=(const SearchDisplay&) = delete;

  void show(const SearchStatus& status);

 private:
  using Clock = std::chrono::steady_clock;

  const SearchSpace& space_;
  Divergence divergence_;
  std::string strategy_;
  std::optional<Budget> budget_;
  bool terminal_;
  std::vector<Outcome> front_;  ///< ascending by size
  std::optional<double> best_;  ///< divergence of the best point within the budget
  Clock::time_point start_;
  Clock::time_point next_;
};

}  // namespace knapsaq::command
