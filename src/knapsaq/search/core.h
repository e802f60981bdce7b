#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "knapsaq/search/relaxation.h"

namespace knapsaq {

/// The optimum within a budget that lies between two corners of the relaxation.
struct Completion {
  Levels levels;
  /// How far below `levels` the optimum may be: 0 unless more states were needed than are kept.
  double doubt = 0;
};

/// For weights that are only approximate: the true size of a solution depends on all its levels.
struct Window {
  std::int64_t width = 0;                   ///< a solution that leaves this much room certainly fits
  std::function<bool(const Levels&)> fits;  ///< called for solutions that leave less
  double value = 0;  ///< cost of a known solution that fits, above the relaxation's bound
};

/// The maximum number of states kept after an item. For a moment there are three times as many, in two lists,
/// of 24 bytes each, and up to 17 times as many steps of their histories, of 12 bytes. With the slack of
/// growing vectors, this is less than 64 MiB for each budget in progress.
inline constexpr std::size_t kMostStates = std::size_t{1} << 16;

/// Completes a solution of the relaxation, `corner`, which leaves `room` units and whose best next step saves
/// `price` per unit. It starts from the corner and changes items one after another, those whose changes lose
/// least per unit first. It keeps the changes that no others beat in weight and cost and that can still lead
/// to a solution as good as the best known one. Of solutions of equal cost (up to rounding), it returns the
/// lightest.
///
/// After Pisinger, "A minimal algorithm for the multiple-choice knapsack problem", European Journal of
/// Operational Research 83, 1995: with c the costs, w the weights and p the price, a solution x costs
///   bound + sum_i loss_i(x_i) + p * (room that x leaves),  loss = dc + p dw >= 0 (d: above the corner's),
/// so every change that loses more than the best known solution can be dropped.
///
/// With a window, an item's levels may come in any order and dominate each other, a change is only dropped
/// for one that is lighter by the window's width, the corner need not fit, and the result has no levels if
/// nothing is better than the window's known solution.
Completion complete(const ExactProblem& problem, const Levels& corner, std::int64_t room, double price,
                    std::size_t most_states = kMostStates, const Window* window = nullptr);

}  // namespace knapsaq
