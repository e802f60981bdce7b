#pragma once

#include "knapsaq/search/strategy.h"

// The strategies, for registry.cpp; everybody else asks find_strategy(name).

namespace knapsaq {

StrategyInfo front_strategy();
StrategyInfo amq_strategy();
StrategyInfo ga_strategy();
StrategyInfo pso_strategy();
StrategyInfo sa_strategy();
StrategyInfo de_strategy();
StrategyInfo mxq_strategy();
StrategyInfo random_strategy();
StrategyInfo uniform_strategy();

}  // namespace knapsaq
