#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "knapsaq/search/archive.h"
#include "knapsaq/search/evaluator.h"
#include "knapsaq/search/search_status.h"
#include "knapsaq/search/strategy.h"

namespace knapsaq {

/// Phase of the first batch of every search: SearchSpace::smallest() and largest() on all windows, which the
/// hypervolume's reference point is made of. Strategies are not told of it; they may ask for both again for
/// nothing.
inline constexpr std::string_view kExtremes = "extremes";

struct SearchReport {
  std::int64_t search = 0;       ///< its id in the archive
  std::int64_t evaluations = 0;  ///< distinct (point, windows) that it asked for
  std::int64_t measured = 0;     ///< of these, made now
  /// Evaluator::cost of everything asked for, batch by batch, as if nothing but this search's own earlier
  /// questions had been known before: a higher fidelity of a point costs its additional windows.
  double full_passes = 0;
  double seconds = 0;
};

/// Lets a strategy ask and an evaluator answer until the strategy is done. Measurements are of kSearchSet.
/// What the archive knows is not measured again; a higher fidelity measures only the windows that are new,
/// and their measurement joined to the lower one is kept. A lower fidelity than what is known is measured: a
/// mean over other tokens would be no fair comparison. Measurements are archived one by one, the batch's
/// steps (in the order of its points) and the strategy's notes together when all are there.
///
/// Called again after a kill with the same arguments it goes through the same questions, answers those of
/// before from the archive, and ends with the archive of an undisturbed run, but for the seconds that
/// measurements took: for that the evaluator's order within a batch must not change when some of its points
/// are left out, and notes must not tell what differs between runs.
///
/// How much is measured is the strategy's business (StrategySetup::evaluations). Throws Cancelled, and
/// IoError when the disk is full; what was measured stays.
SearchReport run_search(Strategy& strategy, const StrategySetup& setup, const SearchRecord& record,
                        Evaluator& evaluator, Archive& archive,
                        const std::function<void(const SearchStatus&)>& status = {});

}  // namespace knapsaq
