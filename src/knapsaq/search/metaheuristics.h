#pragma once

#include "knapsaq/search/strategy.h"

// The scalar searches of the metaheuristic paper, for registry.cpp; everybody else asks find_strategy(name).
//
// All four ask the same number of questions: the first population, then as many for each epoch, so
// population x (epochs + 1), or exactly StrategySetup::evaluations if that is not 0, the epochs following
// from it and the last one cut short. They make StrategySetup::goal small; without one the divergence under
// the setup's budget. Where there is a budget, every point is made to fit before it is asked (Repair). They
// throw UsageError if there is neither goal nor budget and for options without meaning, InfeasibleError for a
// budget below the smallest point.

namespace knapsaq {

StrategyInfo ga_strategy();
StrategyInfo pso_strategy();
StrategyInfo sa_strategy();
StrategyInfo de_strategy();

}  // namespace knapsaq
