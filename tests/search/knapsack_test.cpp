#include "knapsaq/search/knapsack.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/pattern.h"
#include "knapsaq/base/random.h"
#include "knapsaq/search/core.h"
#include "knapsaq/search/make_space.h"
#include "knapsaq/search/mxq.h"
#include "knapsaq/search/pins.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

using Items = std::vector<std::vector<Choice>>;

/// What makes instances different: how many values sizes and costs may take, and of which kind.
enum class Kind {
  bytes,        ///< sizes like those of linears, costs that fall with them: what searches meet
  independent,  ///< real costs, any sizes
  integers,     ///< few small values of both: many equal solutions
  negative,     ///< costs around zero, some of them zero
  correlated,   ///< cost and size almost in line: hard
  huge,         ///< sizes near 2^45 that differ by single bytes
};
constexpr Kind kKinds[] = {Kind::bytes,    Kind::independent, Kind::integers,
                           Kind::negative, Kind::correlated,  Kind::huge};

Choice random_choice(Kind kind, double weights, Random& random) {
  switch (kind) {
    case Kind::bytes: {
      const double bits = std::array{2.0, 3.0, 4.0, 8.0}[random.below(4)];
      const double group = std::array{32.0, 64.0, 128.0}[random.below(3)];
      return {std::sqrt(weights) * std::pow(2.0, -bits) * (1 + group / 300) * (1 + 0.1 * random.uniform()),
              weights * (bits + 32 / group) / 8};
    }
    case Kind::independent:
      return {random.uniform(), static_cast<double>(random.below(100000))};
    case Kind::integers:
      return {static_cast<double>(random.below(5)), static_cast<double>(8 * random.below(6))};
    case Kind::negative:
      return {random.below(4) == 0 ? 0 : random.uniform() - 0.5, static_cast<double>(64 * random.below(50))};
    case Kind::correlated: {
      const double size = 1000 + static_cast<double>(random.below(100000));
      return {2e5 - size + 100 * random.uniform(), size};
    }
    case Kind::huge:
      return {random.uniform(), std::ldexp(1.0, 45) + static_cast<double>(random.below(20))};
  }
  return {};
}

Items random_items(Kind kind, std::size_t count, std::size_t most_levels, Random& random) {
  Items items;
  for (std::size_t i = 0; i < count; ++i) {
    const double weights = 4096.0 * static_cast<double>(1 + random.below(64));
    std::vector<Choice>& item = items.emplace_back();
    for (std::size_t n = 1 + random.below(most_levels); n > 0; --n)
      item.push_back(random_choice(kind, weights, random));
  }
  return items;
}

/// How far two sums of costs may differ by rounding.
double tolerance(const Items& items) {
  double total = 0;
  for (const std::vector<Choice>& item : items) {
    double most = 0;
    for (const Choice& choice : item) most = std::max(most, std::abs(choice.cost));
    total += most;
  }
  return 1e-12 * total;
}

void expect_sound(const Items& items, const FrontPoint& point) {
  ASSERT_EQ(point.levels.size(), items.size());
  double cost = 0;
  double bytes = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    ASSERT_LT(point.levels[i], items[i].size());
    cost += items[i][point.levels[i]].cost;
    bytes += items[i][point.levels[i]].size;
  }
  EXPECT_EQ(point.cost, cost);
  EXPECT_EQ(static_cast<double>(point.bytes), bytes);
  EXPECT_LE(point.bound, point.cost);
}

/// Least cost for every size that combinations have, without what is beaten.
std::map<std::uint64_t, double> brute_front(const Items& items) {
  std::map<std::uint64_t, double> all = {{0, 0.0}};
  for (const std::vector<Choice>& item : items) {
    std::map<std::uint64_t, double> next;
    for (const auto& [bytes, cost] : all) {
      for (const Choice& choice : item) {
        const auto [at, made] =
            next.try_emplace(bytes + static_cast<std::uint64_t>(choice.size), cost + choice.cost);
        if (!made) at->second = std::min(at->second, cost + choice.cost);
      }
    }
    all.swap(next);
  }
  double least = std::numeric_limits<double>::infinity();
  std::erase_if(all, [&](const auto& entry) {
    if (entry.second >= least) return true;
    least = entry.second;
    return false;
  });
  return all;
}

TEST(Knapsack, EqualsBruteForceAtEveryBudget) {
  Random random(21);
  for (int round = 0; round < 300; ++round) {
    const Kind kind = kKinds[round % std::size(kKinds)];
    const Items items = random_items(kind, 1 + random.below(7), 5, random);
    const std::map<std::uint64_t, double> front = brute_front(items);
    const Knapsack knapsack(items);
    EXPECT_EQ(knapsack.smallest(), front.begin()->first);
    const double slack = tolerance(items);
    for (auto at = front.begin(); at != front.end(); ++at) {
      const std::uint64_t last = std::next(at) == front.end() ? at->first + 1000 : std::next(at)->first - 1;
      for (const std::uint64_t budget : {at->first, last}) {
        const FrontPoint point = knapsack.best_within(budget);
        expect_sound(items, point);
        EXPECT_EQ(point.bound, point.cost);
        EXPECT_NEAR(point.cost, at->second, slack) << "round " << round << " budget " << budget;
        // The smallest of equal ones: where costs are whole numbers that is clear.
        if (kind == Kind::integers) {
          EXPECT_EQ(point.bytes, at->first) << "round " << round;
        }
        EXPECT_LE(point.bytes, budget);
      }
    }
    if (front.begin()->first > 0) {
      EXPECT_THROW(knapsack.best_within(front.begin()->first - 1), InfeasibleError);
    }
  }
}

TEST(Knapsack, AllOfTheFrontEqualsBruteForce) {
  Random random(22);
  for (int round = 0; round < 200; ++round) {
    const Kind kind = kKinds[round % std::size(kKinds)];
    const Items items = random_items(kind, 1 + random.below(8), 4, random);
    std::map<std::uint64_t, double> front = brute_front(items);
    const auto all = Knapsack(items).all(1000000);
    ASSERT_TRUE(all.has_value());
    if (kind == Kind::integers) {
      ASSERT_EQ(all->size(), front.size()) << round;
    }
    const double slack = tolerance(items);
    for (std::size_t p = 0; p < all->size(); ++p) {
      expect_sound(items, (*all)[p]);
      const auto at = front.find((*all)[p].bytes);
      if (at == front.end()) continue;  // costs that differ by rounding alone
      EXPECT_NEAR((*all)[p].cost, at->second, slack);
      front.erase(at);
      if (p > 0) {
        EXPECT_LT((*all)[p - 1].bytes, (*all)[p].bytes);
        EXPECT_GT((*all)[p - 1].cost, (*all)[p].cost);
      }
    }
    // What is missing is as good as another one, up to rounding.
    for (const auto& [bytes, cost] : front) {
      const FrontPoint* point = best_within(*all, bytes);
      ASSERT_NE(point, nullptr);
      EXPECT_NEAR(point->cost, cost, slack);
    }
  }
}

TEST(Knapsack, EqualsHighs) {
  Random random(23);
  for (int round = 0; round < 300; ++round) {
    const Kind kind = kKinds[round % std::size(kKinds)];
    // HiGHS takes long for what is hard.
    const std::size_t most = kind == Kind::correlated || kind == Kind::huge ? 12 : 60;
    const Items items = random_items(kind, 2 + random.below(most), round % 2 == 0 ? 3 : 12, random);
    const Knapsack knapsack(items);
    const std::uint64_t range = knapsack.largest() - knapsack.smallest();
    const std::uint64_t budget = knapsack.smallest() + random.below(range + range / 8 + 1);
    const FrontPoint point = knapsack.best_within(budget);
    expect_sound(items, point);
    EXPECT_EQ(point.bound, point.cost) << "round " << round;
    EXPECT_LE(point.bytes, budget);
    const Solution solution = solve_mip({items, static_cast<double>(budget)});
    const double scale = 1e3 * tolerance(items);  // 1e-9: what HiGHS' tolerances come to
    EXPECT_NEAR(point.cost, solution.objective, scale) << "round " << round;
    EXPECT_LE(point.cost, solution.objective + tolerance(items)) << "round " << round;
    EXPECT_GE(point.cost, solution.bound - tolerance(items)) << "round " << round;
  }
}

TEST(Knapsack, EqualsHighsWithTiesAndPins) {
  Random random(24);
  constexpr const char* kModules[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                      "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
                                      "mlp.down_proj"};
  for (int round = 0; round < 120; ++round) {
    ErrorTable table;
    table.menu = parse_menu(round % 2 == 0 ? "mxq" : "hqq:b2g128,hqq:b3g128,hqq:b4g128").schemes;
    const int layers = 1 + static_cast<int>(random.below(8));
    for (int layer = 0; layer < layers; ++layer) {
      for (const char* module : kModules) {
        ErrorRow& row = table.rows.emplace_back();
        row.layer = layer;
        row.module = module;
        row.name = fmt::format("model.layers.{}.{}", layer, module);
        const auto out = static_cast<std::int64_t>(32 * (1 + random.below(8)));
        const auto in = static_cast<std::int64_t>(128 * (1 + random.below(8)));
        row.parameters = out * in;
        for (const Scheme& scheme : table.menu) {
          const double error = std::sqrt(static_cast<double>(out * in)) * std::pow(2.0, -scheme.bits) *
                               (0.8 + 0.4 * random.uniform());
          row.cells.push_back({scheme, error, storage_bytes(scheme, out, in)});
        }
      }
    }
    const std::string_view ties = std::array{"none", "qkv", "vllm", "layer"}[random.below(4)];
    const bool pinned = round % 3 != 0;
    const std::vector<Pin> pins = {parse_pin("*.down_proj>=3"), parse_pin("0.*<=4"),
                                   parse_pin("0.*.o_proj=b3g128")};
    if (pinned && ties == "layer") continue;  // would leave the first layer without a choice of its own
    const SearchSpace space = make_space(table, ties, pinned ? pins : std::vector<Pin>{}, Cost::fnorm, {});
    const Items items = knapsack_items(space);
    const Knapsack knapsack(items);
    const std::uint64_t budget =
        knapsack.smallest() + random.below(knapsack.largest() - knapsack.smallest() + 1);
    const FrontPoint point = knapsack.best_within(budget);
    EXPECT_EQ(space.linear_bytes(point.levels), point.bytes);
    EXPECT_LE(point.bytes, budget);
    const std::vector<std::size_t> choices = space.choices(point.levels);
    double cost = 0;
    for (std::size_t i = 0; i < choices.size(); ++i) cost += table.rows[i].cells[choices[i]].fnorm;
    EXPECT_NEAR(cost, point.cost, 1e-9 * cost);

    // The same to HiGHS, from the table itself; what pins forbid costs more than everything.
    ErrorTable priced = table;
    const auto forbid = [&](std::string_view pattern, auto allowed) {
      for (ErrorRow& row : priced.rows) {
        if (!matches_pattern(pattern, fmt::format("{}.{}", row.layer, row.module))) continue;
        for (ErrorCell& cell : row.cells) {
          if (!allowed(cell.scheme)) cell.fnorm += 1e6;
        }
      }
    };
    if (pinned) {
      forbid("*.mlp.down_proj", [](const Scheme& scheme) { return scheme.bits >= 3; });
      forbid("0.*", [](const Scheme& scheme) { return scheme.bits <= 4; });
      forbid("0.self_attn.o_proj",
             [](const Scheme& scheme) { return scheme.bits == 3 && scheme.group == 128; });
    }
    const Allocation allocation = allocate_mxq(priced, budget, ties, {.solver = Solver::highs});
    EXPECT_NEAR(allocation.objective, point.cost, 1e-7 * point.cost) << "round " << round;
  }
}

TEST(Knapsack, HullIsOptimalAndConvex) {
  Random random(25);
  for (int round = 0; round < 60; ++round) {
    const Items items = random_items(kKinds[round % std::size(kKinds)], 10, 6, random);
    const Knapsack knapsack(items);
    const std::vector<FrontPoint> hull = knapsack.hull();
    EXPECT_EQ(hull.front().bytes, knapsack.smallest());
    EXPECT_EQ(hull.back().bytes, knapsack.largest());
    const double slack = tolerance(items);
    double last = std::numeric_limits<double>::infinity();
    for (std::size_t p = 0; p < hull.size(); ++p) {
      expect_sound(items, hull[p]);
      EXPECT_NEAR(knapsack.best_within(hull[p].bytes).cost, hull[p].cost, slack);
      if (p == 0) continue;
      ASSERT_GT(hull[p].bytes, hull[p - 1].bytes);
      const double rate =
          (hull[p - 1].cost - hull[p].cost) / static_cast<double>(hull[p].bytes - hull[p - 1].bytes);
      EXPECT_LE(rate, last * (1 + 1e-9) + slack);
      last = rate;
    }
  }
}

TEST(Knapsack, FrontOfLongProblemsHasHullAndBudgets) {
  Random random(26);
  const Items items = random_items(Kind::bytes, 120, 12, random);
  const KnapsackFront front = knapsack_front(items, {.budgets = 30, .most = 300});
  EXPECT_FALSE(front.complete);
  const Knapsack knapsack(items);
  for (const FrontPoint& corner : knapsack.hull())
    EXPECT_NEAR(best_within(front.points, corner.bytes)->cost, corner.cost, tolerance(items));
  for (const std::uint64_t budget : even_budgets(knapsack.smallest(), knapsack.largest(), 30)) {
    EXPECT_NEAR(best_within(front.points, budget)->cost, knapsack.best_within(budget).cost, tolerance(items));
  }
  for (std::size_t p = 1; p < front.points.size(); ++p) {
    EXPECT_LT(front.points[p - 1].bytes, front.points[p].bytes);
    EXPECT_GT(front.points[p - 1].cost, front.points[p].cost);
  }
  EXPECT_EQ(best_within(front.points, knapsack.smallest() - 1), nullptr);
  // The whole of it agrees at every budget that both know.
  const auto all = knapsack.all(1000000);
  ASSERT_TRUE(all.has_value());
  EXPECT_GT(all->size(), 300U);
  for (const FrontPoint& point : front.points)
    EXPECT_NEAR(best_within(*all, point.bytes)->cost, point.cost, tolerance(items));
}

TEST(Knapsack, ListsOfLevelsRestrictAndMapBack) {
  Random random(27);
  for (int round = 0; round < 60; ++round) {
    const Items items = random_items(kKinds[round % std::size(kKinds)], 6, 6, random);
    std::vector<std::vector<std::uint8_t>> allowed;
    Items few;
    for (const std::vector<Choice>& item : items) {
      std::vector<std::uint8_t>& list = allowed.emplace_back();
      for (std::size_t l = 0; l < item.size(); ++l) {
        if (random.below(2) == 0) list.push_back(static_cast<std::uint8_t>(l));
      }
      if (list.empty()) list.push_back(static_cast<std::uint8_t>(random.below(item.size())));
      std::vector<Choice>& some = few.emplace_back();
      for (const std::uint8_t level : list) some.push_back(item[level]);
    }
    const Knapsack restricted(items, allowed);
    const Knapsack filtered(few);
    ASSERT_EQ(restricted.smallest(), filtered.smallest());
    for (const std::uint64_t budget : even_budgets(filtered.smallest(), filtered.largest() + 3, 9)) {
      const FrontPoint point = restricted.best_within(budget);
      expect_sound(items, point);
      const FrontPoint other = filtered.best_within(budget);
      EXPECT_EQ(point.cost, other.cost);
      for (std::size_t i = 0; i < items.size(); ++i) EXPECT_EQ(point.levels[i], allowed[i][other.levels[i]]);
    }
  }
}

TEST(Knapsack, DegenerateProblems) {
  EXPECT_EQ(Knapsack(Items{}).best_within(0).cost, 0);
  EXPECT_EQ(knapsack_front(Items{}).points.size(), 1U);
  const Items same(100, {{1, 4}, {0, 9}, {0, 9}, {1, 4}});
  EXPECT_EQ(Knapsack(same).best_within(400 + 5 * 37 + 4).cost, 63);
  EXPECT_EQ(knapsack_front(same).points.size(), 101U);
  const Items zero(50, {{0, 30}, {0, 10}, {0, 20}});
  EXPECT_EQ(Knapsack(zero).best_within(1000).bytes, 500U);
  EXPECT_EQ(knapsack_front(zero).points.size(), 1U);
  const Items worse_when_larger(3, {{0, 1}, {5, 2}});
  EXPECT_EQ(Knapsack(worse_when_larger).best_within(100).bytes, 3U);
  const Items weightless = {{{3, 0}, {2, 0}}, {{-1, 0}, {-2, 5}}};
  EXPECT_EQ(Knapsack(weightless).best_within(4).cost, 1);
  EXPECT_EQ(Knapsack(weightless).best_within(~std::uint64_t{0}).cost, 0);
}

TEST(Knapsack, TooFewStatesGiveAnHonestBound) {
  Random random(28);
  int doubtful = 0;
  for (int round = 0; round < 100; ++round) {
    const Items items = random_items(Kind::correlated, 14, 5, random);
    Problem problem{items, 0};
    const Knapsack knapsack(items);
    const std::uint64_t budget =
        knapsack.smallest() + (knapsack.largest() - knapsack.smallest()) * (1 + random.below(8)) / 10;
    problem.budget = static_cast<double>(budget);
    const ExactProblem exact = make_exact(problem);
    Levels corner(items.size(), 0);
    std::int64_t room = exact.capacity;
    double price = 0;
    for (const HullStep& step : hull_steps(exact)) {
      price = step.rate();
      if (step.weight > room) break;
      corner[step.item] = step.to;
      room -= step.weight;
    }
    const double optimum = knapsack.best_within(budget).cost - exact.least_cost;
    for (const std::size_t states : {2, 16}) {
      const Completion completion = complete(exact, corner, room, price, states);
      EXPECT_LE(total_weight(exact, completion.levels), exact.capacity);
      const double cost = total_cost(exact, completion.levels);
      EXPECT_GE(cost, optimum - tolerance(items));
      EXPECT_LE(cost - completion.doubt, optimum + tolerance(items));
      doubtful += completion.doubt > 0;
    }
  }
  EXPECT_GT(doubtful, 20);
}

TEST(Knapsack, SameResultsWhateverTheNumberOfThreads) {
  Random random(29);
  const Items items = random_items(Kind::bytes, 80, 12, random);
  const Knapsack knapsack(items);
  const std::vector<std::uint64_t> budgets = even_budgets(knapsack.smallest(), knapsack.largest(), 40);
  std::vector<std::vector<FrontPoint>> results;
  for (const int threads : {1, 3}) {
    work_with_threads(threads);
    results.push_back(knapsack.best_within(budgets));
  }
  work_with_threads(0);
  for (std::size_t b = 0; b < budgets.size(); ++b) {
    EXPECT_EQ(results[0][b].levels, results[1][b].levels);
    EXPECT_EQ(results[0][b].levels, knapsack.best_within(budgets[b]).levels);
  }
}

TEST(Knapsack, RefusesWhatIsNotAProblem) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_THROW(Knapsack(Items{{}}), UsageError);
  EXPECT_THROW(Knapsack(Items{{{nan, 1}}}), UsageError);
  EXPECT_THROW(Knapsack(Items{{{infinity, 1}}}), UsageError);
  EXPECT_THROW(Knapsack(Items{{{1, nan}}}), UsageError);
  EXPECT_THROW(Knapsack(Items{{{1, -1}}}), UsageError);
  EXPECT_THROW(Knapsack(Items{{{1, 1.5}}}), UsageError);
  EXPECT_THROW(Knapsack(Items{{{1, infinity}}}), UsageError);
  EXPECT_THROW(Knapsack(Items(2, {{1, 0x1p51}})), UsageError);
  EXPECT_THROW(Knapsack(Items{std::vector<Choice>(257, {1, 1})}), UsageError);
  const Items items = {{{1, 1}, {0, 2}}};
  const std::vector<std::vector<std::uint8_t>> outside = {{2}};
  const std::vector<std::vector<std::uint8_t>> nothing = {{}};
  const std::vector<std::vector<std::uint8_t>> too_many = {{0}, {0}};
  EXPECT_THROW(Knapsack(items, outside), std::invalid_argument);
  EXPECT_THROW(Knapsack(items, nothing), std::invalid_argument);
  EXPECT_THROW(Knapsack(items, too_many), std::invalid_argument);
  try {
    Knapsack(Items{{{1, 10}, {0, 20}}}).best_within(9);
    FAIL();
  } catch (const InfeasibleError& error) {
    EXPECT_EQ(error.smallest(), 10);
  }
}

TEST(Knapsack, EvenBudgets) {
  EXPECT_THAT(even_budgets(10, 20, 3), testing::ElementsAre(10, 15, 20));
  EXPECT_THAT(even_budgets(10, 12, 9), testing::ElementsAre(10, 11, 12));
  EXPECT_THAT(even_budgets(7, 7, 5), testing::ElementsAre(7));
  EXPECT_THAT(even_budgets(1, 9, 1), testing::ElementsAre(9));
  EXPECT_TRUE(even_budgets(1, 9, 0).empty());
  EXPECT_EQ(even_budgets(0, std::uint64_t{1} << 51, 1001).back(), std::uint64_t{1} << 51);
}

}  // namespace
}  // namespace knapsaq
