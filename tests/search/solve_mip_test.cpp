#include <cmath>
#include <fstream>
#include <limits>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/execution.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/base/random.h"
#include "knapsaq/search/problem.h"
#include "knapsaq/search/relaxation.h"

namespace knapsaq {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// What every solution has to be, whatever the problem.
void expect_sound(const Problem& problem, const Solution& solution) {
  ASSERT_EQ(solution.chosen.size(), problem.items.size());
  double cost = 0;
  double size = 0;
  for (std::size_t i = 0; i < problem.items.size(); ++i) {
    ASSERT_LT(solution.chosen[i], problem.items[i].size());
    cost += problem.items[i][solution.chosen[i]].cost;
    size += problem.items[i][solution.chosen[i]].size;
  }
  EXPECT_EQ(solution.objective, cost);
  EXPECT_EQ(solution.size, size);
  EXPECT_LE(size, problem.budget);
  EXPECT_LE(solution.bound, solution.objective);
  EXPECT_DOUBLE_EQ(solution.gap,
                   (solution.objective - solution.bound) / std::max(std::abs(solution.objective), 1e-12));
}

/// The least cost of all combinations; infinity if none fits.
double brute_force(const Problem& problem, std::size_t item = 0, double cost = 0, double size = 0) {
  if (item == problem.items.size()) return size <= problem.budget ? cost : kInfinity;
  double best = kInfinity;
  for (const Choice& choice : problem.items[item]) {
    best = std::min(best, brute_force(problem, item + 1, cost + choice.cost, size + choice.size));
  }
  return best;
}

double smallest_size(const Problem& problem) {
  double total = 0;
  for (const std::vector<Choice>& item : problem.items) {
    double least = kInfinity;
    for (const Choice& choice : item) least = std::min(least, choice.size);
    total += least;
  }
  return total;
}

TEST(SolveMip, EqualsBruteForceOnSmallProblems) {
  // Sizes and costs of very different magnitudes and kinds: bytes of large models, fractions, many equal
  // values.
  struct Kind {
    double size;
    double cost;
    bool integers;
  };
  const Kind kinds[] = {{10, 5, true},      {1e3, 1e-9, false}, {1e11, 1.0, true},
                        {0.7, 1e12, false}, {4, 2, true},       {1e15, 1e3, true}};
  Random random(7);
  int feasible = 0;
  for (int round = 0; round < 600; ++round) {
    const Kind& kind = kinds[round % std::size(kinds)];
    Problem problem;
    const std::size_t items = 1 + random.below(6);
    for (std::size_t i = 0; i < items; ++i) {
      std::vector<Choice>& item = problem.items.emplace_back();
      const std::size_t choices = 1 + random.below(6);
      for (std::size_t c = 0; c < choices; ++c) {
        Choice choice{kind.cost * random.uniform(), kind.size * random.uniform()};
        if (kind.integers) choice = {std::floor(choice.cost), std::floor(choice.size)};
        item.push_back(choice);
      }
    }
    problem.budget = kind.size * static_cast<double>(items) * random.uniform();
    if (kind.integers) problem.budget = std::floor(problem.budget);
    const double best = brute_force(problem);
    if (best == kInfinity) {
      try {
        solve_mip(problem);
        FAIL() << "round " << round << " is infeasible";
      } catch (const InfeasibleError& error) {
        EXPECT_EQ(error.smallest(), smallest_size(problem));
      }
      continue;
    }
    ++feasible;
    const Solution solution = solve_mip(problem);
    expect_sound(problem, solution);
    EXPECT_NEAR(solution.objective, best, 1e-9 * std::max(std::abs(best), kind.cost)) << "round " << round;
    EXPECT_NEAR(solution.bound, best, 2e-9 * std::max(std::abs(best), kind.cost)) << "round " << round;
  }
  EXPECT_GT(feasible, 300);
}

TEST(SolveMip, EqualsScipyMilp) {
  std::ifstream file(std::string(KNAPSAQ_TEST_DATA) + "/search/mip_references.json");
  const nlohmann::json references = nlohmann::json::parse(file);
  ASSERT_GE(references["problems"].size(), 12U);
  for (const nlohmann::json& reference : references["problems"]) {
    Problem problem;
    problem.budget = reference["budget"];
    for (const nlohmann::json& item : reference["items"]) {
      std::vector<Choice>& choices = problem.items.emplace_back();
      for (const nlohmann::json& choice : item) choices.push_back({choice[0], choice[1]});
    }
    const Solution solution = solve_mip(problem);
    expect_sound(problem, solution);
    const double objective = reference["objective"];
    EXPECT_NEAR(solution.objective, objective, 1e-9 * objective);
    EXPECT_LE(solution.gap, 1e-9);
  }
}

TEST(SolveMip, AddingAConstantToCostsOrTheUnitOfSizesChangesNothing) {
  Random random(11);
  Problem problem;
  for (int i = 0; i < 30; ++i) {
    std::vector<Choice>& item = problem.items.emplace_back();
    for (int c = 0; c < 8; ++c) {
      item.push_back({std::floor(1000 * random.uniform()), std::floor(1000 * random.uniform())});
    }
  }
  problem.budget = 9000;
  const Solution plain = solve_mip(problem);
  Problem moved = problem;
  moved.budget *= 0.125;
  for (std::vector<Choice>& item : moved.items) {
    for (Choice& choice : item) choice = {choice.cost - 700, choice.size * 0.125};
  }
  const Solution same = solve_mip(moved);
  expect_sound(moved, same);
  EXPECT_EQ(same.objective, plain.objective - 30 * 700);
  EXPECT_EQ(same.size, plain.size * 0.125);
}

TEST(SolveMip, BudgetAboveTheLargestGivesTheCheapestAndTheSmallestOfEquals) {
  const Problem problem{{{{3, 10}, {1, 30}, {1, 20}}, {{5, 1}, {5, 2}}, {{0, 7}}}, 1e9};
  const Solution solution = solve_mip(problem);
  expect_sound(problem, solution);
  EXPECT_THAT(solution.chosen, testing::ElementsAre(2, 0, 0));
  EXPECT_EQ(solution.gap, 0);
}

TEST(SolveMip, BudgetEqualToTheSmallestSize) {
  const Problem problem{{{{3, 10}, {1, 30}}, {{5, 2}, {4, 2}, {0, 3}}}, 12};
  const Solution solution = solve_mip(problem);
  expect_sound(problem, solution);
  EXPECT_THAT(solution.chosen, testing::ElementsAre(0, 1));
  EXPECT_NEAR(solution.bound, 7, 1e-7);
}

TEST(SolveMip, BudgetBelowTheSmallestSizeNamesIt) {
  const Problem problem{{{{3, 10}, {1, 30}}, {{5, 2}}}, 11.999};
  try {
    solve_mip(problem);
    FAIL() << "must not be feasible";
  } catch (const InfeasibleError& error) {
    EXPECT_EQ(error.smallest(), 12);
    EXPECT_THAT(error.what(), testing::HasSubstr("12"));
  }
}

TEST(SolveMip, NoItems) {
  EXPECT_EQ(solve_mip(Problem{{}, 0}).objective, 0);
  EXPECT_THROW(solve_mip(Problem{{}, -1}), InfeasibleError);
}

TEST(SolveMip, OneItem) {
  const Problem problem{{{{9, 1}, {4, 5}, {2, 6}, {1, 8}}}, 7};
  const Solution solution = solve_mip(problem);
  expect_sound(problem, solution);
  EXPECT_THAT(solution.chosen, testing::ElementsAre(2));
}

TEST(SolveMip, AllCostsZero) {
  Problem problem;
  for (int i = 0; i < 50; ++i) problem.items.push_back({{0, 30.0 + i}, {0, 10}, {0, 20}});
  problem.budget = 600;
  const Solution solution = solve_mip(problem);
  expect_sound(problem, solution);
  EXPECT_EQ(solution.size, 500);
}

TEST(SolveMip, AllItemsTheSame) {
  // 100 times the same choice between 4 units at cost 1 and 9 at cost 0: every solution is a count.
  Problem problem;
  problem.items.assign(100, {{1, 4}, {0, 9}});
  problem.budget = 400 + 5 * 37 + 4;
  const Solution solution = solve_mip(problem);
  expect_sound(problem, solution);
  EXPECT_EQ(solution.objective, 63);
  EXPECT_LE(solution.gap, 1e-9);
}

TEST(SolveMip, ThousandItems) {
  Random random(3);
  Problem problem;
  double least = 0;
  double most = 0;
  for (int i = 0; i < 1000; ++i) {
    std::vector<Choice>& item = problem.items.emplace_back();
    const double weights = 4096.0 * static_cast<double>(1 + random.below(4000));
    for (const int bits : {2, 3, 4, 8}) {
      for (const int group : {32, 64, 128}) {
        item.push_back(
            {std::sqrt(weights) * std::pow(2.0, -bits) * (1 + group / 300.0) * (1 + 0.3 * random.uniform()),
             weights * (bits + 16.0 / group) / 8});
      }
    }
    least += weights * 2.125 / 8;
    most += weights * 8.5 / 8;
  }
  problem.budget = std::floor(least + 0.2 * (most - least));
  const Solution solution = solve_mip(problem, {.gap = 1e-5});
  expect_sound(problem, solution);
  EXPECT_LE(solution.gap, 1e-5);
}

/// Cost and size in line but for little, which takes HiGHS hours to prove.
Problem hard_problem() {
  Random random(7);
  Problem problem;
  double total = 0;
  for (int i = 0; i < 400; ++i) {
    std::vector<Choice>& item = problem.items.emplace_back();
    for (int c = 0; c < 6; ++c) {
      const double size = 100'000 + static_cast<double>(random.below(1'000'000));
      item.push_back({1e7 - size + static_cast<double>(random.below(50)), size});
    }
    total += item.front().size;
  }
  problem.budget = std::floor(total);
  return problem;
}

TEST(SolveMip, SaysHowFarItIsAndStopsWhenAskedTo) {
  struct Stopper final : Progress {
    void begin(std::string_view what, std::uint64_t, std::string_view) override {
      named_right = named_right && what.starts_with("HiGHS");
      ended = false;
    }
    void advance(std::uint64_t) override {
      if (++looks == 3) cancellation.request();
    }
    void end() override { ended = true; }
    Cancellation cancellation;
    bool named_right = true;
    int looks = 0;
    bool ended = false;
  };
  Stopper progress;
  const ExecutionScope scope({.cancellation = &progress.cancellation});
  SolveOptions options;
  options.progress = &progress;
  options.time_limit = 1e6;
  EXPECT_THROW(solve_mip(hard_problem(), options), Cancelled);
  EXPECT_GE(progress.looks, 3);
  EXPECT_TRUE(progress.ended);
  EXPECT_TRUE(progress.named_right);
}

TEST(SolveMip, NeverAboveTheBudgetWhereTheSolverCannotSeeTheDifference) {
  // Sizes near 2^50: one byte too much is far below any tolerance, and much cheaper.
  const double huge = std::ldexp(1.0, 50);
  const Problem problem{
      {{{100, 1}, {10, huge + 3}, {0, huge + 5}}, {{100, 1}, {10, huge - 4}, {0, huge + 1}}}, 2 * huge};
  const Solution solution = solve_mip(problem);
  expect_sound(problem, solution);
  EXPECT_EQ(solution.objective, brute_force(problem));
}

TEST(SolveMip, StopsAtTheTimeLimitWithAnHonestGap) {
  // Strongly correlated sizes and costs are what makes knapsacks hard.
  Random random(5);
  Problem problem;
  for (int i = 0; i < 400; ++i) {
    std::vector<Choice>& item = problem.items.emplace_back();
    for (int c = 0; c < 10; ++c) {
      const double size = 1e6 + static_cast<double>(random.below(10'000'000));
      item.push_back({2e7 - size - 1e3 * random.uniform(), size});
    }
  }
  problem.budget = 2'000'000'001;
  const Solution solution = solve_mip(problem, {.gap = 0, .time_limit = 0.05});
  expect_sound(problem, solution);
  EXPECT_LE(solution.gap, 1e-2);
}

TEST(SolveMip, SameResultEveryTime) {
  Random random(9);
  Problem problem;
  for (int i = 0; i < 60; ++i) {
    std::vector<Choice>& item = problem.items.emplace_back();
    for (int c = 0; c < 12; ++c)
      item.push_back({static_cast<double>(random.below(50)), static_cast<double>(1 + random.below(50))});
  }
  problem.budget = 600;
  const Solution one = solve_mip(problem);
  const Solution two = solve_mip(problem);
  EXPECT_EQ(one.chosen, two.chosen);
  EXPECT_EQ(one.bound, two.bound);
}

TEST(SolveMip, RefusesWhatIsNotAProblem) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(solve_mip(Problem{{{}}, 1}), UsageError);
  EXPECT_THROW(solve_mip(Problem{{{{nan, 1}}}, 1}), UsageError);
  EXPECT_THROW(solve_mip(Problem{{{{1, nan}}}, 1}), UsageError);
  EXPECT_THROW(solve_mip(Problem{{{{1, -1}}}, 1}), UsageError);
  EXPECT_THROW(solve_mip(Problem{{{{kInfinity, 1}}}, 1}), UsageError);
  EXPECT_THROW(solve_mip(Problem{{{{1, 1}}}, nan}), UsageError);
  EXPECT_THROW(solve_mip(Problem{{{{1, 1}}}, 1}, {.gap = -1}), UsageError);
  EXPECT_THROW(solve_mip(Problem{{{{1, 1}}}, 1}, {.time_limit = 0}), UsageError);
}

TEST(Relaxation, DropsDominatedChoicesAndFindsTheUnit) {
  const Problem problem{{{{5, 1024}, {5, 2048}, {4, 2048}, {6, 4096}, {1, 4096}, {4, 2048}}, {{2, 512}}},
                        4000};
  const ExactProblem exact = make_exact(problem);
  ASSERT_EQ(exact.items.size(), 2U);
  ASSERT_EQ(exact.items[0].size(), 3U);
  EXPECT_EQ(exact.items[0][0].choice, 0U);
  EXPECT_EQ(exact.items[0][1].choice, 2U);
  EXPECT_EQ(exact.items[0][2].choice, 4U);
  // Differences of 1024 and 3072: one unit is 1024 bytes, of which 4000 - 1536 leave two.
  EXPECT_EQ(exact.items[0][1].weight, 1);
  EXPECT_EQ(exact.items[0][2].weight, 3);
  EXPECT_EQ(exact.capacity, 2);
  EXPECT_EQ(exact.items[0][1].cost, 3);
  EXPECT_EQ(exact.least_cost, 3);
}

TEST(Relaxation, BoundsAndRoundsEveryProblem) {
  Random random(13);
  for (int round = 0; round < 200; ++round) {
    Problem problem;
    for (int i = 0; i < 5; ++i) {
      std::vector<Choice>& item = problem.items.emplace_back();
      for (int c = 0; c < 5; ++c) item.push_back({random.uniform(), static_cast<double>(random.below(100))});
    }
    problem.budget = smallest_size(problem) + static_cast<double>(random.below(100));
    const ExactProblem exact = make_exact(problem);
    const Relaxation relaxation = relax(exact);
    const double best = brute_force(problem) - exact.least_cost;
    EXPECT_LE(relaxation.bound, best + 1e-9);
    Levels levels = relaxation.rounded;
    EXPECT_LE(total_weight(exact, levels), exact.capacity);
    const double rounded = total_cost(exact, levels);
    improve(exact, levels);
    EXPECT_LE(total_weight(exact, levels), exact.capacity);
    EXPECT_LE(total_cost(exact, levels), rounded);
    EXPECT_GE(total_cost(exact, levels), best - 1e-9);
    // What is kept still holds an optimum.
    const ExactProblem kept = keep_promising(exact, relaxation, total_cost(exact, levels));
    Problem rest;
    rest.budget = static_cast<double>(kept.capacity);
    for (const std::vector<Level>& item : kept.items) {
      std::vector<Choice>& choices = rest.items.emplace_back();
      for (const Level& level : item) choices.push_back({level.cost, static_cast<double>(level.weight)});
    }
    EXPECT_NEAR(brute_force(rest) + kept.least_cost, best + exact.least_cost, 1e-9);
  }
}

}  // namespace
}  // namespace knapsaq
