#pragma once

#include "knapsaq/search/strategy.h"

namespace knapsaq {

/// AMQ (Lee et al., "AMQ: Enabling AutoML for mixed-precision weight-only quantization of large language
/// models", EMNLP 2025, arXiv 2509.12019): every constant of its published code an option, with its value.
/// Two objectives, average bits and divergence. Phases:
///   sensitivity   everything at its largest level but one variable at its smallest; what hurts more than
///                 twice the median is fixed at the largest. The smallest point is measured along with it:
///                 hypervolumes are told against it. These measurements do not count among AMQ's 10,250 and
///                 its predictor does not see them.
///   initial       uniform points, then random ones.
///   round 1, ..   NSGA-II on a predictor of the divergence, from the front found so far; of its last
///                 population those that spread evenly over the bits are measured.
/// StrategySetup::evaluations limits the measurements of all phases together.
///
/// Notes: "sensitivity" (variable, divergence, pruned) and "round" (round, evaluations, hypervolume of all
/// that was measured, front: its points, candidates: new points in NSGA-II's last population, asked, and, of
/// the asked ones, rmse, spearman and kendall of predicted against measured divergence; AMQ mixes into these
/// what the predictor was fitted to). What is not a number is left out.
StrategyInfo amq_strategy();

}  // namespace knapsaq
