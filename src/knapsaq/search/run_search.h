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

/// Phase of the first batch of every search: SearchSpace::smallest() and largest() on all windows, from which
/// the hypervolume's reference point is made. Strategies do not receive it; they may ask for both again at no
/// cost.
inline constexpr std::string_view kExtremes = "extremes";

/// Whether the user wants the search to end after the batch that is measured now. Called once per batch, in
/// the thread of the search.
using StopRequest = std::function<bool()>;

struct SearchReport {
  std::int64_t search = 0;       ///< its id in the archive
  std::int64_t evaluations = 0;  ///< distinct (point, windows) that it asked for
  std::int64_t measured = 0;     ///< of these, measured now
  /// Evaluator::cost of everything that was asked for, batch by batch, as if only this search's own earlier
  /// questions had been known: a higher fidelity of a point costs its additional windows.
  double full_passes = 0;
  double seconds = 0;
  bool stopped = false;  ///< by a StopRequest: the strategy would have gone on
};

/// Lets a strategy ask and an evaluator answer until the strategy is done. Measurements refer to kSearchSet.
/// Points in the archive are not measured again. A higher fidelity measures only the new windows, and stores
/// the result joined with the lower one. A lower fidelity than the known one is measured, because a mean over
/// other tokens would not be a fair comparison. Measurements are archived one by one; the batch's steps (in
/// the order of its points) and the strategy's notes are archived together when all are there.
///
/// Called again after a kill with the same arguments, it asks the same questions, answers the earlier ones
/// from the archive, and ends with the archive of an uninterrupted run, except for the seconds that
/// measurements took. This requires that the evaluator's order within a batch does not change when some of
/// its points are omitted, and that notes do not contain what differs between runs.
///
/// How much is measured is the strategy's business (StrategySetup::evaluations). When `stop` asks for it, the
/// search returns after the current batch: everything measured is in the archive, the search is not marked as
/// finished there, and the same call goes on with it later. Throws Cancelled, and IoError when the disk is
/// full; what was measured stays.
SearchReport run_search(Strategy& strategy, const StrategySetup& setup, const SearchRecord& record,
                        Evaluator& evaluator, Archive& archive,
                        const std::function<void(const SearchStatus&)>& status = {},
                        const StopRequest& stop = {});

}  // namespace knapsaq
