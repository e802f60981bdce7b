#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "knapsaq/search/relaxation.h"

namespace knapsaq {

/// The optimum within a budget that lies between two corners of the relaxation.
struct Completion {
  Levels levels;
  /// What the optimum may cost less than `levels`: 0 unless more states were needed than are kept.
  double doubt = 0;
};

/// For weights that are only nearly the truth: what a solution really takes depends on all its levels.
struct Window {
  std::int64_t width = 0;                   ///< a solution that leaves so much room fits for certain
  std::function<bool(const Levels&)> fits;  ///< asked of solutions that leave less
  double value = 0;  ///< of a known solution that fits: what it costs above the relaxation's bound
};

/// States that are kept at most after an item. For a moment there are three times as many, in two lists, of
/// 24 bytes each, and steps of their histories, of 12 bytes, up to 17 times as many: with the slack of
/// growing vectors less than 64 MiB for each budget that is worked on.
inline constexpr std::size_t kMostStates = std::size_t{1} << 16;

/// Completes a solution of the relaxation, `corner`, which leaves `room` units and whose best next step saves
/// `price` per unit. Starts from the corner and changes items one after another, those whose changes lose
/// least per unit first; keeps the changes that no other ones beat in weight and cost and that can still lead
/// to something as good as the best known solution. Of solutions of equal cost (up to rounding) the lightest.
///
/// After Pisinger, "A minimal algorithm for the multiple-choice knapsack problem", European Journal of
/// Operational Research 83, 1995: with c the costs, w the weights and p the price, a solution x costs
///   bound + sum_i loss_i(x_i) + p * (room that x leaves),  loss = dc + p dw >= 0 (d: above the corner's),
/// so that all that loses more than the best known solution is out.
///
/// With a window, an item's levels may come in any order and beat each other, a change is only dropped for
/// one that is lighter by the window's width, the corner need not fit, and there are no levels in the result
/// if nothing is better than the window's known solution.
Completion complete(const ExactProblem& problem, const Levels& corner, std::int64_t room, double price,
                    std::size_t most_states = kMostStates, const Window* window = nullptr);

}  // namespace knapsaq
