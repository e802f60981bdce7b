#pragma once

#include "knapsaq/search/strategy.h"

// The strategies, for registry.cpp; all other code calls find_strategy(name).

namespace knapsaq {

/// Knapsaq's own (docs/search.md).
StrategyInfo front_strategy();

/// AMQ (Lee et al., "AMQ: Enabling AutoML for mixed-precision weight-only quantization of large language
/// models", EMNLP 2025, arXiv 2509.12019). Every constant of its published code is an option, with its value
/// as the default. Two objectives, average bits and divergence. Phases:
///   sensitivity   everything at its largest level but one variable at its smallest; variables that hurt more
///                 than twice the median are fixed at the largest. The smallest point is measured too,
///                 because it is the reference of hypervolumes. These measurements do not count among AMQ's
///                 10,250, and its predictor does not see them.
///   initial       uniform points, then random ones.
///   round 1, ..   NSGA-II on a predictor of the divergence, from the front found so far; of its last
///                 population, points that are spread evenly over the bits are measured.
/// StrategySetup::evaluations limits the measurements of all phases together.
///
/// Notes: "sensitivity" (variable, divergence, pruned) and "round" (round, evaluations, hypervolume of
/// everything measured, front: its points, candidates: new points in NSGA-II's last population, asked, and,
/// for the asked ones, rmse, spearman and kendall of predicted against measured divergence; AMQ mixes into
/// these the points to which the predictor was fitted). Values that are not numbers are omitted.
StrategyInfo amq_strategy();

/// The scalar searches of the metaheuristic paper. All four ask the same number of questions: the first
/// population, then as many for each epoch, that is population x (epochs + 1), or exactly
/// StrategySetup::evaluations if that is not 0; the number of epochs then follows, and the last one is cut
/// short. They minimise StrategySetup::goal, or without one the divergence under the setup's budget. If there
/// is a budget, every point is made to fit before it is asked (Repair). They throw UsageError if there is
/// neither goal nor budget and for invalid options, InfeasibleError for a budget below the smallest point.
StrategyInfo ga_strategy();
StrategyInfo pso_strategy();
StrategyInfo sa_strategy();
StrategyInfo de_strategy();

/// Along the size axis, the allocations of least local error (MXQ, Eq. 3).
StrategyInfo mxq_strategy();
/// Points drawn uniformly from the space.
StrategyInfo random_strategy();
/// Every choice of the menu for all variables alike (uniform_points()).
StrategyInfo uniform_strategy();

}  // namespace knapsaq
