#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/random.h"
#include "knapsaq/search/goal.h"
#include "knapsaq/search/point_less.h"
#include "knapsaq/search/problem.h"
#include "knapsaq/search/strategies.h"
#include "made_space.h"

namespace knapsaq {
namespace {

const std::vector<StrategyInfo> kAll = {ga_strategy(), pso_strategy(), sa_strategy(), de_strategy()};

/// A goal that needs no model.
class FunctionGoal final : public Goal {
 public:
  explicit FunctionGoal(std::function<double(const Point&)> function) : function_(std::move(function)) {}
  double value(const Point& point, const Measurement&) const override { return function_(point); }

 private:
  std::function<double(const Point&)> function_;
};

/// `variables` with so many levels each.
SearchSpace plain_space(std::size_t variables, std::size_t levels) {
  SearchSpace space;
  for (std::size_t i = 0; i < variables; ++i) {
    Variable& variable = space.variables.emplace_back();
    for (std::size_t l = 0; l < levels; ++l)
      variable.levels.push_back({l, 10 * (l + 1), 2.0 + static_cast<double>(l), 0});
  }
  return space;
}

struct Course {
  std::vector<std::vector<Point>> batches;
  std::vector<Note> notes;
  double best = std::numeric_limits<double>::infinity();

  std::size_t questions() const {
    std::size_t count = 0;
    for (const std::vector<Point>& batch : batches) count += batch.size();
    return count;
  }
};

/// A search from its first question to its last.
Course course(const StrategyInfo& info, StrategySetup setup, const std::vector<std::string>& set = {}) {
  OptionValues options(info.options);
  for (const std::string& assignment : set) options.set(assignment);
  const std::unique_ptr<Strategy> strategy = info.make(setup, options);
  Course result;
  for (Batch batch = strategy->ask(); !batch.points.empty(); batch = strategy->ask()) {
    EXPECT_EQ(batch.windows, 0);
    const std::vector<Measurement> answers(batch.points.size());
    if (setup.goal != nullptr)
      for (std::size_t i = 0; i < batch.points.size(); ++i)
        result.best = std::min(result.best, setup.goal->value(batch.points[i], answers[i]));
    strategy->tell(batch, answers);
    for (Note& note : strategy->notes()) result.notes.push_back(std::move(note));
    result.batches.push_back(std::move(batch.points));
  }
  EXPECT_TRUE(strategy->ask().points.empty());
  return result;
}

Course course(const StrategyInfo& info, const SearchSpace& space, const Goal& goal, std::uint64_t seed,
              std::int64_t evaluations = 0, const std::vector<std::string>& set = {}) {
  StrategySetup setup;
  setup.space = &space;
  setup.goal = &goal;
  setup.seed = seed;
  setup.evaluations = evaluations;
  return course(info, setup, set);
}

std::size_t distance(const Point& a, const Point& b) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += a[i] != b[i] ? 1U : 0U;
  return count;
}

/// A function of one table per variable, in no order of levels.
struct Separable {
  std::vector<std::vector<double>> tables;
  double optimum = 0;

  Separable(std::size_t variables, std::size_t levels, std::uint64_t seed) {
    Random random(seed);
    for (std::size_t i = 0; i < variables; ++i) {
      std::vector<double>& table = tables.emplace_back();
      for (std::size_t l = 0; l < levels; ++l) table.push_back(random.uniform());
      optimum += *std::min_element(table.begin(), table.end());
    }
  }

  double operator()(const Point& point) const {
    double sum = 0;
    for (std::size_t i = 0; i < point.size(); ++i) sum += tables[i][point[i]];
    return sum;
  }
};

int successes(const StrategyInfo& info, const SearchSpace& space, const Goal& goal, double optimum,
              std::int64_t evaluations, const std::vector<std::string>& set = {}) {
  int count = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed)
    count += course(info, space, goal, seed, evaluations, set).best <= optimum + 1e-9 ? 1 : 0;
  return count;
}

TEST(Metaheuristics, AskTheSameNumberOfQuestions) {
  const SearchSpace space = plain_space(8, 3);
  const FunctionGoal goal([](const Point& point) { return point[0] + 2.0 * point[3]; });
  for (const StrategyInfo& info : kAll) {
    SCOPED_TRACE(info.name);
    EXPECT_EQ(course(info, space, goal, 1).questions(), 110U);
    EXPECT_EQ(course(info, space, goal, 1, 0, {"population=7", "epochs=4"}).questions(), 35U);
    EXPECT_EQ(course(info, space, goal, 1, 0, {"epochs=0"}).questions(), 10U);
    for (const std::int64_t evaluations : {1, 9, 10, 11, 57, 200})
      EXPECT_EQ(course(info, space, goal, 1, evaluations).questions(), static_cast<std::size_t>(evaluations));
    StrategySetup setup;
    setup.space = &space;
    setup.goal = &goal;
    EXPECT_EQ(info.make(setup, OptionValues(info.options))->planned(), 110);
  }
  EXPECT_EQ(course(sa_strategy(), space, goal, 1, 0, {"chains=4"}).questions(), 110U);
}

TEST(Metaheuristics, BatchesArePopulationsAndChains) {
  const SearchSpace space = plain_space(8, 3);
  const FunctionGoal goal([](const Point& point) { return point[0]; });
  for (const StrategyInfo& info : kAll) {
    const Course one =
        course(info, space, goal, 1, 0,
               info.name == "sa" ? std::vector<std::string>{"chains=5"} : std::vector<std::string>{});
    for (std::size_t b = 0; b < one.batches.size(); ++b)
      EXPECT_EQ(one.batches[b].size(), info.name == "sa" && b > 0 ? 5U : 10U) << info.name;
  }
}

TEST(Metaheuristics, FollowTheSeed) {
  const SearchSpace space = plain_space(10, 4);
  const Separable function(10, 4, 3);
  const FunctionGoal goal(function);
  std::set<Point, PointLess> first;
  for (const StrategyInfo& info : kAll) {
    const Course one = course(info, space, goal, 5);
    EXPECT_EQ(one.batches == course(info, space, goal, 5).batches, true) << info.name;
    EXPECT_EQ(one.batches == course(info, space, goal, 6).batches, false) << info.name;
    first.insert(one.batches[0][0]);
  }
  EXPECT_EQ(first.size(), kAll.size()) << "runs of two strategies with one seed are not independent";
}

TEST(Metaheuristics, StayInsideTheSpace) {
  SearchSpace space = plain_space(6, 3);
  space.variables[1].levels.resize(1);  // pinned
  space.variables[4].levels.resize(2);
  space.variables[5].levels.resize(1);
  SearchSpace none = plain_space(3, 1);
  const FunctionGoal goal([](const Point& point) { return -1.0 * point[0]; });
  for (const StrategyInfo& info : kAll) {
    SCOPED_TRACE(info.name);
    for (const std::vector<Point>& batch : course(info, space, goal, 2, 300).batches) {
      for (const Point& point : batch) {
        ASSERT_EQ(point.size(), 6U);
        for (std::size_t i = 0; i < 6; ++i) EXPECT_LT(point[i], space.variables[i].levels.size());
      }
    }
    EXPECT_EQ(course(info, none, goal, 1, 30).questions(), 30U);
  }
}

TEST(Metaheuristics, AskNoPointTwiceUntilTheSpaceIsNearlyExhausted) {
  const SearchSpace space = plain_space(7, 3);
  const Separable function(7, 3, 3);
  const FunctionGoal goal(function);
  for (const StrategyInfo& info : kAll) {
    SCOPED_TRACE(info.name);
    std::set<Point, PointLess> seen;
    for (const std::vector<Point>& batch : course(info, space, goal, 1, 500).batches)
      seen.insert(batch.begin(), batch.end());
    EXPECT_GE(seen.size(), 499U);
    seen.clear();
    for (const std::vector<Point>& batch : course(info, space, goal, 1, 500, {"fresh=0"}).batches)
      seen.insert(batch.begin(), batch.end());
    EXPECT_LT(seen.size(), 480U);
  }
}

// 531441 points: a thousand random ones meet the optimum in one run of 500. Without `fresh`, swarms and
// differences die out on few levels: fewer successes.
TEST(Metaheuristics, FindTheOptimumOfASeparableFunction) {
  const SearchSpace space = plain_space(12, 3);
  const Separable function(12, 3, 1);
  const FunctionGoal goal(function);
  for (const StrategyInfo& info : kAll) {
    EXPECT_GE(successes(info, space, goal, function.optimum, 1010), 19) << info.name;
    EXPECT_GE(successes(info, space, goal, function.optimum, 2000, {"population=20", "fresh=0"}),
              info.name == "pso"  ? 2
              : info.name == "de" ? 6
                                  : 18)
        << info.name;
  }
  EXPECT_GE(successes(ga_strategy(), space, goal, function.optimum, 1010, {"crossover=one-point"}), 19);
  EXPECT_GE(successes(ga_strategy(), space, goal, function.optimum, 1010, {"mutation=step"}), 19);
  EXPECT_GE(successes(de_strategy(), space, goal, function.optimum, 1010, {"variant=rand/1/bin"}), 19);
  EXPECT_GE(successes(sa_strategy(), space, goal, function.optimum, 1010, {"chains=5", "restarts=2"}), 19);
}

/// Blocks in which fewer matches with a hidden word are better, except that the word itself is best.
FunctionGoal trap(std::size_t size) {
  return FunctionGoal([size](const Point& point) {
    double sum = 0;
    for (std::size_t begin = 0; begin < point.size(); begin += size) {
      std::size_t matches = 0;
      for (std::size_t i = begin; i < begin + size; ++i)
        matches += point[i] == (i * 7 / 3 + begin) % 2 ? 1U : 0U;
      sum += matches == size ? 0.0 : static_cast<double>(matches + 1);
    }
    return sum;
  });
}

TEST(Metaheuristics, DeceptiveBlocks) {
  const SearchSpace space = plain_space(15, 2);
  const FunctionGoal goal = trap(3);
  // A search that goes downhill from one point ends with 5 (every block at its second best); 4000 random
  // points of 32768 meet the optimum in one run of eight.
  EXPECT_GE(successes(ga_strategy(), space, goal, 0, 4000, {"population=100", "tournament=2"}), 18);
  EXPECT_GE(successes(de_strategy(), space, goal, 0, 4000, {"population=40", "variant=rand/1/bin"}), 18);
  EXPECT_GE(successes(pso_strategy(), space, goal, 0, 4000, {"population=40"}), 9);
  EXPECT_GE(successes(sa_strategy(), space, goal, 0, 4000, {"accept=0.5", "restarts=3", "final=0.1"}), 18);
}

/// The knapsack of a made space's errors, and how far above its optimum searches end.
TEST(Metaheuristics, ComeCloseToTheKnapsacksOptimum) {
  const SearchSpace space = made_space(28, kMadeMenu, 3);
  const std::uint64_t least = space.linear_bytes(space.smallest());
  const std::uint64_t budget = least + (space.linear_bytes(space.largest()) - least) * 3 / 10;
  Problem problem;
  problem.budget = static_cast<double>(budget);
  for (const Variable& variable : space.variables) {
    std::vector<Choice>& item = problem.items.emplace_back();
    for (const SpaceLevel& level : variable.levels)
      item.push_back({level.error, static_cast<double>(level.bytes)});
  }
  const double optimum = solve_mip(problem).objective;
  const FunctionGoal goal([&](const Point& point) {
    if (space.linear_bytes(point) > budget) ADD_FAILURE() << "over the budget";
    double sum = 0;
    for (std::size_t i = 0; i < point.size(); ++i) sum += space.variables[i].levels[point[i]].error;
    return sum;
  });
  StrategySetup setup;
  setup.space = &space;
  setup.goal = &goal;
  setup.budget = of_linears(budget);
  setup.evaluations = 1010;
  for (const StrategyInfo& info : kAll) {
    std::vector<double> best;
    for (std::uint64_t seed = 1; seed <= 11; ++seed) {
      setup.seed = seed;
      best.push_back(course(info, setup).best);
      EXPECT_GE(best.back(), optimum * (1 - 1e-12));
    }
    std::nth_element(best.begin(), best.begin() + 5, best.end());
    EXPECT_LE(best[5], 1.02 * optimum) << info.name;
  }
}

TEST(Metaheuristics, WithoutAGoalTheDivergenceWithinTheBudgetCounts) {
  const SearchSpace space = made_space(10);
  StrategySetup setup;
  setup.space = &space;
  for (const StrategyInfo& info : kAll) {
    EXPECT_THROW(info.make(setup, OptionValues(info.options)), UsageError) << info.name;
    setup.budget = of_linears(space.linear_bytes(space.smallest()) - 1);
    try {
      info.make(setup, OptionValues(info.options));
      ADD_FAILURE() << info.name;
    } catch (const InfeasibleError& error) {
      EXPECT_EQ(error.smallest(), static_cast<double>(space.linear_bytes(space.smallest())));
    }
    setup.budget = of_linears(space.linear_bytes(space.smallest()) + 5000);
    for (const std::vector<Point>& batch : course(info, setup).batches)
      for (const Point& point : batch) EXPECT_LE(space.linear_bytes(point), setup.budget->bytes);
    setup.budget.reset();
  }
}

TEST(Metaheuristics, ValuesThatAreNoNumbersNeverWin) {
  const SearchSpace space = plain_space(10, 3);
  const Separable function(10, 3, 1);
  const FunctionGoal goal([&](const Point& point) {
    return point[0] == 2   ? std::numeric_limits<double>::quiet_NaN()
           : point[1] == 2 ? -std::numeric_limits<double>::infinity()
                           : function(point);
  });
  for (const StrategyInfo& info : kAll) {
    const Course one = course(info, space, goal, 1, 600);
    ASSERT_FALSE(one.notes.empty());
    EXPECT_EQ(one.notes.back().values[2].first, "best");
    EXPECT_TRUE(std::isfinite(one.notes.back().values[2].second)) << info.name;
    EXPECT_LT(one.notes.back().values[2].second, 5) << info.name;
  }
}

TEST(Metaheuristics, RefuseOptionsWithoutMeaning) {
  const SearchSpace space = plain_space(4, 3);
  const FunctionGoal goal([](const Point&) { return 0.0; });
  const std::pair<const char*, const char*> cases[] = {{"ga", "crossover=two-point"},
                                                       {"ga", "mutation=swap"},
                                                       {"ga", "crossover-rate=1.5"},
                                                       {"ga", "mutation-rate=-1"},
                                                       {"ga", "tournament=0"},
                                                       {"ga", "population=0"},
                                                       {"ga", "epochs=-1"},
                                                       {"pso", "clamp=0"},
                                                       {"sa", "chains=0"},
                                                       {"sa", "accept=1"},
                                                       {"sa", "final=0"},
                                                       {"sa", "move=swap"},
                                                       {"sa", "temperature=-1"},
                                                       {"de", "variant=rand/2"},
                                                       {"de", "population=3"},
                                                       {"de", "crossover=2"},
                                                       {"de", "factor=0"},
                                                       {"ga", "epochs=9000000000000000000"}};
  for (const auto& [name, assignment] : cases) {
    const auto info =
        std::find_if(kAll.begin(), kAll.end(), [&](const StrategyInfo& one) { return one.name == name; });
    EXPECT_THROW(course(*info, space, goal, 1, 0, {assignment}), UsageError) << name << " " << assignment;
  }
}

TEST(Metaheuristics, EveryOptionHasAReason) {
  for (const StrategyInfo& info : kAll) {
    EXPECT_FALSE(info.summary.empty());
    for (const StrategyOption& option : info.options) EXPECT_GT(option.help.size(), 20U) << option.name;
  }
}

/// Members that a genetic algorithm with elitism=0 breeds from: the batch before.
TEST(Ga, ChildrenAreMadeOfTheirParents) {
  const SearchSpace space = plain_space(9, 5);
  const Separable function(9, 5, 1);
  const FunctionGoal goal(function);
  const std::vector<std::string> pure = {"fresh=0", "mutation-rate=1e-300", "elitism=0", "crossover-rate=1"};
  for (const bool one_point : {false, true}) {
    std::vector<std::string> set = pure;
    set.push_back(one_point ? "crossover=one-point" : "crossover=uniform");
    const Course one = course(ga_strategy(), space, goal, 1, 0, set);
    int mixed = 0;
    for (std::size_t b = 1; b < one.batches.size(); ++b) {
      for (const Point& child : one.batches[b]) {
        bool found = false;
        for (const Point& a : one.batches[b - 1]) {
          for (const Point& c : one.batches[b - 1]) {
            // Where the child leaves one parent and agrees with the other from then on.
            std::size_t cut = 0;
            while (cut < 9 && child[cut] == a[cut]) ++cut;
            bool made = true;
            for (std::size_t i = 0; i < 9; ++i)
              made = made && (child[i] == c[i] || (child[i] == a[i] && (!one_point || i < cut)));
            found = found || made;
          }
        }
        EXPECT_TRUE(found);
        mixed += std::all_of(one.batches[b - 1].begin(), one.batches[b - 1].end(),
                             [&](const Point& a) { return distance(a, child) > 0; })
                     ? 1
                     : 0;
      }
    }
    EXPECT_GT(mixed, 10) << "nothing is crossed";
  }
}

TEST(Ga, MutationByStepsAndByRedrawing) {
  const SearchSpace space = plain_space(9, 5);
  const Separable function(9, 5, 1);
  const FunctionGoal goal(function);
  for (const bool step : {false, true}) {
    const Course one =
        course(ga_strategy(), space, goal, 1, 0,
               {"fresh=0", "elitism=0", "crossover-rate=0", step ? "mutation=step" : "mutation=redraw"});
    int orphans = 0;  // children that no member comes within one level of in every variable
    int changes = 0;
    for (std::size_t b = 1; b < one.batches.size(); ++b) {
      const std::vector<Point>& members = one.batches[b - 1];
      for (const Point& child : one.batches[b]) {
        std::size_t nearest = 9;
        bool near = false;
        for (const Point& member : members) {
          nearest = std::min(nearest, distance(member, child));
          int farthest = 0;
          for (std::size_t i = 0; i < 9; ++i) farthest = std::max(farthest, std::abs(child[i] - member[i]));
          near = near || farthest <= 1;
        }
        changes += static_cast<int>(nearest);
        orphans += near ? 0 : 1;
      }
    }
    EXPECT_GT(changes, 50);
    EXPECT_LT(changes, 150);  // one per child is expected
    if (step) {
      EXPECT_EQ(orphans, 0);
    } else {
      EXPECT_GT(orphans, 20);
    }
  }
}

TEST(Ga, SelectionPressureAndElitism) {
  const SearchSpace space = plain_space(20, 3);
  const Separable function(20, 3, 1);
  const FunctionGoal goal(function);
  const auto last_mean = [&](const std::vector<std::string>& set) {
    double sum = 0;
    for (std::uint64_t seed = 1; seed <= 10; ++seed)
      sum += course(ga_strategy(), space, goal, seed, 0, set).notes.back().values[3].second;
    return sum / 10;
  };
  // A tournament of one selects nothing; without elitism the population then only drifts.
  const double drift = last_mean({"tournament=1", "elitism=0"});
  EXPECT_GT(drift, last_mean({"tournament=3", "elitism=0"}) + 0.5);
  EXPECT_GT(drift, last_mean({"tournament=1", "elitism=10"}) + 0.5);
}

TEST(Pso, VelocityIsClamped) {
  const SearchSpace space = plain_space(6, 11);
  const FunctionGoal goal([](const Point& point) { return -1.0 * point[0] - point[1]; });
  const Course one = course(pso_strategy(), space, goal, 1, 0, {"fresh=0", "clamp=0.2"});
  int largest = 0;
  for (std::size_t b = 1; b < one.batches.size(); ++b) {
    for (std::size_t i = 0; i < 10; ++i) {
      for (std::size_t d = 0; d < 6; ++d)
        largest = std::max(largest, std::abs(one.batches[b][i][d] - one.batches[b - 1][i][d]));
    }
  }
  EXPECT_EQ(largest, 2);
}

TEST(Pso, TheSwarmGathersAtTheBestPoint) {
  const SearchSpace space = plain_space(6, 11);
  const FunctionGoal goal([](const Point& point) {
    double sum = 0;
    for (std::size_t d = 0; d < 6; ++d) sum += std::abs(point[d] - static_cast<double>(d + 2));
    return sum;
  });
  int gathered = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const Course one = course(pso_strategy(), space, goal, seed, 610, {"fresh=0"});
    gathered += one.notes.back().values[3].second < 1 && one.best < 1 ? 1 : 0;
  }
  EXPECT_GE(gathered, 8);
}

TEST(De, WithoutCrossoverOneVariableComesFromTheMutant) {
  const SearchSpace space = plain_space(9, 5);
  const Separable function(9, 5, 1);
  const FunctionGoal goal(function);
  const Course one = course(de_strategy(), space, goal, 1, 0, {"fresh=0", "crossover=0"});
  int changed = 0;
  for (const Point& trial : one.batches[1]) {
    const std::size_t i = static_cast<std::size_t>(&trial - one.batches[1].data());
    EXPECT_LE(distance(trial, one.batches[0][i]), 1U);
    changed += distance(trial, one.batches[0][i]) == 1 ? 1 : 0;
  }
  EXPECT_GE(changed, 4);
}

TEST(De, DifferencesLeadAwayFromTheMembers) {
  const SearchSpace space = plain_space(9, 5);
  const Separable function(9, 5, 1);
  const FunctionGoal goal(function);
  const Course one = course(de_strategy(), space, goal, 1, 0, {"fresh=0", "crossover=1", "factor=1"});
  // All of a mutant is taken: without its difference it would be a member.
  int away = 0;
  for (const Point& trial : one.batches[1])
    away += std::all_of(one.batches[0].begin(), one.batches[0].end(),
                        [&](const Point& member) { return distance(member, trial) > 0; })
                ? 1
                : 0;
  EXPECT_GE(away, 9);
}

TEST(De, BestIsGreedierThanRand) {
  const SearchSpace space = plain_space(30, 3);
  const Separable function(30, 3, 1);
  const FunctionGoal goal(function);
  double best = 0;
  double rand = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    best += course(de_strategy(), space, goal, seed, 0, {"variant=best/1/bin"}).best;
    rand += course(de_strategy(), space, goal, seed, 0, {"variant=rand/1/bin"}).best;
  }
  EXPECT_LT(best, rand);
}

TEST(Sa, TemperatureFallsGeometricallyAndRestarts) {
  const SearchSpace space = plain_space(9, 3);
  const Separable function(9, 3, 1);
  const FunctionGoal goal(function);
  const auto temperatures = [&](const std::vector<std::string>& set) {
    std::vector<double> result;
    for (const Note& note : course(sa_strategy(), space, goal, 1, 0, set).notes) {
      for (const auto& [name, value] : note.values) {
        if (name == "temperature") result.push_back(value);
      }
    }
    return result;
  };
  // A note tells the temperature of the step that follows; 100 steps.
  const std::vector<double> plain = temperatures({"temperature=2", "final=0.01"});
  ASSERT_EQ(plain.size(), 100U);
  EXPECT_DOUBLE_EQ(plain.front(), 2);
  EXPECT_NEAR(plain.back(), 0.02, 1e-12);
  for (std::size_t i = 1; i < plain.size(); ++i)
    EXPECT_NEAR(plain[i] / plain[i - 1], std::pow(0.01, 1.0 / 99), 1e-12);
  const std::vector<double> again = temperatures({"temperature=2", "final=0.01", "restarts=3"});
  for (const std::size_t start : {0U, 25U, 50U, 75U}) {
    EXPECT_DOUBLE_EQ(again[start], 2);
    EXPECT_NEAR(again[start + 24], 0.02, 1e-12);
  }
}

TEST(Sa, ColdChainsOnlyImproveAndHotOnesWander) {
  const SearchSpace space = plain_space(30, 3);
  const Separable function(30, 3, 1);
  const FunctionGoal goal(function);
  // Every question is one move from where the chain is.
  const Course cold = course(sa_strategy(), space, goal, 1, 500, {"temperature=1e-9", "fresh=0"});
  Point at = *std::min_element(cold.batches[0].begin(), cold.batches[0].end(),
                               [&](const Point& a, const Point& b) { return function(a) < function(b); });
  for (std::size_t b = 1; b < cold.batches.size(); ++b) {
    const Point& point = cold.batches[b][0];
    EXPECT_EQ(distance(point, at), 1U);
    if (function(point) <= function(at)) at = point;
  }
  const Course hot = course(sa_strategy(), space, goal, 1, 500, {"temperature=1e9", "final=0.9", "fresh=0"});
  for (std::size_t b = 2; b < hot.batches.size(); ++b)
    EXPECT_EQ(distance(hot.batches[b][0], hot.batches[b - 1][0]), 1U) << "a hot chain accepts everything";
  EXPECT_LT(cold.best + 1, hot.best);
}

TEST(Sa, RestartsBeginAtTheBestPoint) {
  const SearchSpace space = plain_space(30, 3);
  const Separable function(30, 3, 1);
  const FunctionGoal goal(function);
  // A hot chain wanders far from its best point within 50 steps.
  const Course one =
      course(sa_strategy(), space, goal, 1, 0, {"temperature=1e9", "final=0.9", "fresh=0", "restarts=1"});
  ASSERT_EQ(one.batches.size(), 101U);
  const auto better = [&](const Point& a, const Point& b) { return function(a) < function(b); };
  Point best = *std::min_element(one.batches[0].begin(), one.batches[0].end(), better);
  for (std::size_t b = 1; b <= 50; ++b) best = std::min(best, one.batches[b][0], better);
  EXPECT_GT(distance(one.batches[50][0], best), 2U);
  EXPECT_EQ(distance(one.batches[51][0], best), 1U);
}

TEST(Sa, ChainsDoNotKnowOfEachOther) {
  // All moves are accepted: each chain wanders from its own start.
  const SearchSpace space = plain_space(20, 3);
  const Separable function(20, 3, 1);
  const FunctionGoal goal(function);
  const Course one =
      course(sa_strategy(), space, goal, 1, 0, {"chains=4", "temperature=1e9", "final=0.9", "fresh=0"});
  for (std::size_t b = 2; b + 1 < one.batches.size(); ++b) {
    for (std::size_t chain = 0; chain < 4; ++chain)
      EXPECT_EQ(distance(one.batches[b][chain], one.batches[b - 1][chain]), 1U);
  }
}

}  // namespace
}  // namespace knapsaq
