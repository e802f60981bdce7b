#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "knapsaq/base/progress.h"
#include "knapsaq/search/measurement.h"
#include "knapsaq/search/run.h"
#include "knapsaq/search/run_evaluators.h"

namespace knapsaq {

/// An allocation that may be chosen, judged on text that no search saw.
struct Candidate {
  Point point;
  std::uint64_t bytes = 0;  ///< of the files that would be written
  double bits = 0;          ///< average per quantized weight, metadata included
  Measurement heldout;
};

/// What is chosen: the best that was searched, or the best uniform allocation if held-out text likes that
/// better.
struct Selection {
  Candidate chosen;
  bool is_uniform = false;  ///< the guard overruled the search
  /// The one that lost; missing if only one fits, or both are the same allocation.
  std::optional<Candidate> other;
  /// Divergence of `chosen` minus that of `other`, token by token: 0 or less.
  PairedDifference difference;
  double reference_loss = 0;  ///< of the full-precision model on the held-out text, nats per token
};

/// The measured point of the run with the least divergence that is within the budget, against
/// the best uniform one within the same budget, on the run's held-out tokens; measurements are kept in the
/// archive. Of points that compute no finite numbers on the held-out text none is chosen: the next best
/// searched one takes the place. Throws InfeasibleError as require_feasible() does, InputError if nothing
/// that fits was measured yet, NotFiniteError if nothing that fits computes finite numbers, or the full model
/// does not. `strategy`: only what searches with it asked for; empty: everything.
Selection choose(Run& run, const Budget& budget, Evaluators& evaluators, std::string_view strategy = {},
                 Progress& progress = Progress::none());

/// The points within the budget that the searches found best on the whole token set, the best first; at most
/// `most`.
std::vector<Point> best_searched(const Run& run, const Budget& budget, std::size_t most);

/// The same as choose() for a size that need not be kept exactly, as AMQ picks its models: pick_near() among
/// the measured points, against the best uniform one of at most its bytes.
Selection choose_near(Run& run, double bits, double tolerance, Evaluators& evaluators,
                      std::string_view strategy = {}, Progress& progress = Progress::none());

}  // namespace knapsaq
