#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "knapsaq/search/archive.h"
#include "knapsaq/search/evaluator.h"
#include "knapsaq/search/strategy.h"

namespace knapsaq {

/// How far a search is, after every result.
struct SearchStatus {
  std::int64_t evaluations = 0;  ///< measurements that the search asked for
  std::int64_t measured = 0;     ///< of these, made now; the others were in the archive
  double full_passes = 0;
  std::int64_t planned = 0;  ///< points in the current batch
  std::int64_t done = 0;     ///< of these
  std::string phase;
  double seconds = 0;
  std::int64_t expected = 0;                 ///< evaluations in all: Strategy::planned()
  const Point* point = nullptr;              ///< what the newest result is of
  const Measurement* measurement = nullptr;  ///< the newest result
};

struct SearchReport {
  std::int64_t search = 0;       ///< its id in the archive
  std::int64_t evaluations = 0;  ///< distinct (point, windows) that it asked for
  std::int64_t measured = 0;
  double full_passes = 0;  ///< Evaluator::cost of everything asked for, as if nothing had been known before
  double seconds = 0;
};

/// Lets a strategy ask and an evaluator answer until the strategy is done. What the archive knows is not
/// measured again; a higher fidelity measures only the windows that are new. Called again after a kill with
/// the same arguments it goes through the same questions, answers those of before from the archive, and ends
/// with the archive of an undisturbed run. Throws Cancelled; what was measured stays.
SearchReport run_search(Strategy& strategy, const StrategySetup& setup, const SearchRecord& record,
                        Evaluator& evaluator, Archive& archive,
                        const std::function<void(const SearchStatus&)>& status = {});

}  // namespace knapsaq
