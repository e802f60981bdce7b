// Calls rooms that bring outside libraries along: HiGHS through search, oneDNN through model.

#include <cstdio>

#include "knapsaq/model/config.h"
#include "knapsaq/quant/scheme.h"
#include "knapsaq/search/problem.h"

int main() {
  const knapsaq::Problem problem{{{{2, 1}, {0, 3}}, {{3, 1}, {0, 3}}, {{5, 1}, {2, 2}, {0, 4}}}, 6};
  const double objective = knapsaq::solve_mip(problem).objective;
  const std::string scheme = knapsaq::to_string(knapsaq::parse_scheme("hqq:b4g64"));
  std::printf("objective %g, %s\n", objective, scheme.c_str());
  return objective == 4 && scheme == "hqq:b4g64" ? 0 : 1;
}
