// MXQ's integer program at the size of Llama-3.1-405B: 126 layers of 7 linears, 12 schemes each.

#include <cmath>
#include <cstdint>

#include <benchmark/benchmark.h>

#include "knapsaq/base/random.h"
#include "knapsaq/search/problem.h"

namespace knapsaq {
namespace {

struct Shape {
  double out;
  double in;
};

/// Frobenius errors as MXQ's tables of smaller Llamas have them: about 4 times less for two bits more,
/// growing with the group size, growing with depth, and differing from linear to linear.
Problem llama_405b(double bits) {
  constexpr int kLayers = 126;
  constexpr Shape kShapes[] = {{16384, 16384}, {1024, 16384},  {1024, 16384}, {16384, 16384},
                               {53248, 16384}, {53248, 16384}, {16384, 53248}};
  Random random(405);
  Problem problem;
  double parameters = 0;
  for (int layer = 0; layer < kLayers; ++layer) {
    for (const Shape& shape : kShapes) {
      const double weights = shape.out * shape.in;
      parameters += weights;
      const double norm =
          std::sqrt(weights) * 0.01 * (0.7 + 0.6 * layer / kLayers) * std::exp(0.3 * random.normal());
      std::vector<Choice>& item = problem.items.emplace_back();
      for (const int b : {2, 3, 4, 8}) {
        for (const int g : {32, 64, 128}) {
          const double error =
              norm * std::pow(2.0, -b) * std::pow(g / 32.0, 0.2) * std::exp(0.02 * random.normal());
          item.push_back({error, weights * (b + 16.0 / g + 32.0 / (g * 128.0)) / 8});
        }
      }
    }
  }
  problem.budget = std::floor(bits * parameters / 8);
  return problem;
}

/// Arguments: hundredths of a bit per weight; the gap to stop at as a negative power of ten (0: prove).
void allocate_405b(benchmark::State& state) {
  const Problem problem = llama_405b(static_cast<double>(state.range(0)) / 100);
  SolveOptions options;
  options.gap = state.range(1) == 0 ? 0.0 : std::pow(10.0, -static_cast<double>(state.range(1)));
  Solution solution;
  for (auto _ : state) solution = solve_mip(problem, options);
  state.counters["gap"] = solution.gap;
  state.counters["unused_bytes"] = problem.budget - solution.size;
}
BENCHMARK(allocate_405b)
    ->ArgsProduct({{225, 250, 307, 325, 400, 451, 525, 689}, {4, 0}})
    ->ArgNames({"bits_x100", "gap_1e-"})
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace knapsaq

BENCHMARK_MAIN();
