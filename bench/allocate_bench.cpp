// MXQ's integer program at the size of Llama-3.1-405B: 126 layers of 7 linears, 12 schemes each; and the
// whole front, there and at sizes that searches meet.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "knapsaq/base/random.h"
#include "knapsaq/checkpoint/file_sizes.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/quant/scheme.h"
#include "knapsaq/quant/scheme_layout.h"
#include "knapsaq/search/file_knapsack.h"
#include "knapsaq/search/knapsack.h"
#include "knapsaq/search/problem.h"

namespace knapsaq {
namespace {

struct Shape {
  double out;
  double in;
};

constexpr Shape kShapes[] = {{16384, 16384}, {1024, 16384},  {1024, 16384}, {16384, 16384},
                             {53248, 16384}, {53248, 16384}, {16384, 53248}};

/// Frobenius errors as MXQ's tables of smaller Llamas have them: about 4 times less for two bits more,
/// growing with the group size, growing with depth, and differing from linear to linear.
Problem llama(int layers, double bits, std::span<const int> bit_widths, std::span<const int> groups,
              double scale = 1) {
  Random random(405);
  Problem problem;
  double parameters = 0;
  for (int layer = 0; layer < layers; ++layer) {
    for (const Shape& shape : kShapes) {
      const double weights = shape.out * shape.in * scale * scale;
      parameters += weights;
      const double norm =
          std::sqrt(weights) * 0.01 * (0.7 + 0.6 * layer / layers) * std::exp(0.3 * random.normal());
      std::vector<Choice>& item = problem.items.emplace_back();
      for (const int b : bit_widths) {
        for (const int g : groups) {
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

constexpr int kBits[] = {2, 3, 4, 8};
constexpr int kGroups[] = {32, 64, 128};

Problem llama_405b(double bits) { return llama(126, bits, kBits, kGroups); }

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

/// The same by the exact knapsack. Arguments: hundredths of a bit per weight; factor of all dimensions.
void knapsack_405b(benchmark::State& state) {
  const Problem problem = llama(126, static_cast<double>(state.range(0)) / 100, kBits, kGroups,
                                static_cast<double>(state.range(1)));
  FrontPoint point;
  for (auto _ : state)
    point = Knapsack(problem.items).best_within(static_cast<std::uint64_t>(problem.budget));
  state.counters["unproven"] = point.cost - point.bound;
  state.counters["unused_bytes"] = problem.budget - static_cast<double>(point.bytes);
}
BENCHMARK(knapsack_405b)
    ->ArgsProduct({{225, 250, 307, 325, 400, 451, 525, 689}, {1, 4}})
    ->ArgNames({"bits_x100", "scale"})
    ->Unit(benchmark::kMillisecond);

/// The same within a budget for files: shards of 5 GB with an index, embedding and head in bf16. Argument:
/// hundredths of a bit per weight.
void file_knapsack_405b(benchmark::State& state) {
  const double bits = static_cast<double>(state.range(0)) / 100;
  const Problem problem = llama(126, bits, kBits, kGroups);
  const Menu menu = parse_menu("mxq");
  constexpr std::int64_t kEnds = 128256 * std::int64_t{16384};
  std::vector<FilePart> parts = {{{{{"lm_head.weight", DType::BF16, {kEnds}}}}, {}},
                                 {{{{"model.embed_tokens.weight", DType::BF16, {kEnds}}}}, {}}};
  std::vector<FileItem> items;
  for (std::size_t i = 0; i < problem.items.size(); ++i) {
    const Shape& shape = kShapes[i % std::size(kShapes)];
    const std::string name = fmt::format("model.layers.{}.module_{}_proj", i / 7, i % 7);
    FilePart& part = parts.emplace_back();
    FileItem& item = items.emplace_back(FileItem{{i}, {}, {}});
    part.module = i;
    for (std::size_t c = 0; c < menu.schemes.size(); ++c) {
      part.forms.push_back(
          tensors_of(name, stored_shape(menu.schemes[c], static_cast<std::int64_t>(shape.out),
                                        static_cast<std::int64_t>(shape.in))));
      item.forms.push_back(c);
      item.costs.push_back(problem.items[i][c].cost);
    }
  }
  const CheckpointSizes sizes(parts);
  const auto budget = static_cast<std::uint64_t>(problem.budget) + 4 * kEnds + 1'000'000;
  FrontPoint point;
  for (auto _ : state) point = FileKnapsack(sizes, items).best_within(budget);
  state.counters["unproven"] = point.cost - point.bound;
  state.counters["unused_bytes"] = static_cast<double>(budget - point.bytes);
}
BENCHMARK(file_knapsack_405b)
    ->ArgsProduct({{225, 250, 307, 325, 400, 451, 525, 689}})
    ->ArgNames({"bits_x100"})
    ->Unit(benchmark::kMillisecond);

/// Arguments: layers of 7 linears, schemes of each, budgets (with the hull; 0: nothing but the hull).
void knapsack_front_of(benchmark::State& state) {
  const auto schemes = static_cast<std::size_t>(state.range(1));
  const Problem problem = schemes == 12 ? llama(static_cast<int>(state.range(0)), 0, kBits, kGroups)
                                        : llama(static_cast<int>(state.range(0)), 0,
                                                std::span(kBits).first(schemes), std::span(kGroups).last(1));
  KnapsackFrontOptions options;
  options.budgets = static_cast<std::size_t>(state.range(2));
  KnapsackFront front;
  for (auto _ : state) front = knapsack_front(problem.items, options);
  double doubt = 0;
  for (const FrontPoint& point : front.points) doubt = std::max(doubt, point.cost - point.bound);
  state.counters["points"] = static_cast<double>(front.points.size());
  state.counters["complete"] = front.complete;
  state.counters["unproven"] = doubt;
}
BENCHMARK(knapsack_front_of)
    ->ArgsProduct({{6, 36, 126}, {3, 12}, {0, 32, 200}})
    ->ArgNames({"layers", "schemes", "budgets"})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace knapsaq

BENCHMARK_MAIN();
