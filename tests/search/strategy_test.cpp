#include "knapsaq/search/strategy.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/search/uniform.h"
#include "message_of.h"
#include "search/made_space.h"

namespace knapsaq {
namespace {

using testing::HasSubstr;

TEST(OptionValues, AreTheDefaultsWithWhatWasSet) {
  const std::vector<StrategyOption> options = {
      {"rate", "0.25", "a share"}, {"count", "-3", "a number"}, {"wild", "0", "a flag"}};
  OptionValues values(options);
  EXPECT_EQ(values.to_string(), "rate=0.25 count=-3 wild=0");
  values.set("count=12");
  values.set("wild=1");
  values.set("rate=1e-3");
  EXPECT_EQ(values.integer("count"), 12);
  EXPECT_EQ(values.number("rate"), 1e-3);
  EXPECT_TRUE(values.flag("wild"));
  EXPECT_EQ(values.text("count"), "12");
  EXPECT_EQ(values.to_string(), "rate=1e-3 count=12 wild=1");
  EXPECT_THAT(message_of<UsageError>([&] { values.set("colour=red"); }),
              testing::AllOf(HasSubstr("'colour'"), HasSubstr("rate, count, wild")));
  for (const char* bad : {"rate", "rate=", "rate=1 2", ""})
    EXPECT_THAT(message_of<UsageError>([&] { values.set(bad); }), HasSubstr("option '"));
  for (const char* bad : {"rate=fast", "rate=1x", "rate=nan", "rate=inf", "rate=1e999"}) {
    values.set(bad);
    EXPECT_THAT(message_of<UsageError>([&] { values.number("rate"); }), HasSubstr("option rate: '"));
  }
  for (const char* bad : {"count=1.5", "count=-1", "count=99999999999999999999"}) {
    values.set(bad);
    EXPECT_THAT(message_of<UsageError>([&] { values.integer("count"); }), HasSubstr("option count: '"));
  }
  values.set("wild=yes");
  EXPECT_THAT(message_of<UsageError>([&] { values.flag("wild"); }), HasSubstr("neither 0 nor 1"));
  EXPECT_THAT(message_of<UsageError>([&] { OptionValues({}).set("a=1"); }),
              HasSubstr("this strategy has none"));
}

TEST(Strategies, AreFoundByName) {
  std::set<std::string_view> names;
  for (const StrategyInfo& info : strategies()) {
    EXPECT_TRUE(names.insert(info.name).second);
    EXPECT_EQ(find_strategy(info.name).summary, info.summary);
    EXPECT_FALSE(info.summary.empty());
  }
  EXPECT_TRUE(names.contains("random"));
  EXPECT_TRUE(names.contains("uniform"));
  EXPECT_THAT(message_of<UsageError>([] { find_strategy("best"); }),
              testing::AllOf(HasSubstr("'best'"), HasSubstr("random, uniform")));
}

TEST(Strategies, OfAProgramsOwnAreAddedOnce) {
  StrategyInfo own = find_strategy("random");
  own.name = "own-random";
  register_strategy(own);
  EXPECT_EQ(find_strategy("own-random").summary, own.summary);
  EXPECT_EQ(strategies().back().name, "own-random");
  EXPECT_THAT(message_of<UsageError>([&] { register_strategy(own); }), HasSubstr("'own-random' already"));
}

std::vector<Batch> all_batches(std::string_view name, const StrategySetup& setup,
                               const std::vector<std::string>& assignments = {}) {
  const StrategyInfo& info = find_strategy(name);
  OptionValues options(info.options);
  for (const std::string& assignment : assignments) options.set(assignment);
  const std::unique_ptr<Strategy> strategy = info.make(setup, options);
  std::vector<Batch> batches;
  for (Batch batch = strategy->ask(); !batch.points.empty(); batch = strategy->ask()) {
    strategy->tell(batch, std::vector<Measurement>(batch.points.size()));
    batches.push_back(std::move(batch));
  }
  return batches;
}

TEST(RandomStrategy, DrawsEveryLevelEquallyOften) {
  const SearchSpace space = made_space(3);
  StrategySetup setup;
  setup.space = &space;
  setup.seed = 5;
  const std::vector<Batch> batches = all_batches("random", setup, {"evaluations=3020"});
  EXPECT_EQ(batches.size(), 61U);
  EXPECT_EQ(batches.back().points.size(), 20U);
  std::vector<std::vector<int>> counts(3, std::vector<int>(3));
  for (const Batch& batch : batches)
    for (const Point& point : batch.points)
      for (std::size_t v = 0; v < 3; ++v) ++counts[v][point.at(v)];
  // Four standard deviations of a binomial distribution.
  for (const std::vector<int>& variable : counts)
    for (const int count : variable) EXPECT_NEAR(count, 3020 / 3.0, 4 * std::sqrt(3020 * 2 / 9.0));
  // The search's limit counts before the option; the seed decides.
  setup.evaluations = 7;
  const std::vector<Batch> few = all_batches("random", setup);
  ASSERT_EQ(few.size(), 1U);
  EXPECT_EQ(few[0].points.size(), 7U);
  EXPECT_EQ(few[0].points, std::vector<Point>(batches[0].points.begin(), batches[0].points.begin() + 7));
  setup.seed = 6;
  EXPECT_NE(all_batches("random", setup)[0].points, few[0].points);
}

TEST(Strategies, TellHowManyPointsTheyWillAskFor) {
  const SearchSpace space = made_space(9, "hqq:b4g128,hqq:b2g128,hqq:b3g64");
  for (const char* const name : {"random", "uniform", "mxq"}) {
    for (const std::int64_t evaluations : {0, 2}) {
      StrategySetup setup;
      setup.space = &space;
      setup.evaluations = evaluations;
      std::int64_t asked = 0;
      for (const Batch& batch : all_batches(name, setup)) asked += std::ssize(batch.points);
      const StrategyInfo& info = find_strategy(name);
      const std::unique_ptr<Strategy> strategy = info.make(setup, OptionValues(info.options));
      EXPECT_EQ(strategy->planned(), asked) << name;
      strategy->ask();
      EXPECT_EQ(strategy->planned(), asked) << name;
    }
  }
}

TEST(UniformStrategy, GivesEveryChoiceToAll) {
  const SearchSpace space = made_space(9, "hqq:b4g128,hqq:b2g128,hqq:b3g64");
  StrategySetup setup;
  setup.space = &space;
  const std::vector<Batch> batches = all_batches("uniform", setup);
  ASSERT_EQ(batches.size(), 1U);
  ASSERT_EQ(batches[0].points.size(), 3U);
  for (std::size_t choice = 0; choice < 3; ++choice)
    EXPECT_EQ(space.choices(batches[0].points[choice]), std::vector<std::size_t>(9, choice));
  setup.evaluations = 2;
  EXPECT_EQ(all_batches("uniform", setup).at(0).points.size(), 2U);
}

TEST(UniformPoints, TakeTheNearestLevelWhereTheChoiceIsMissing) {
  SearchSpace space = made_space(3, "hqq:b2g128,hqq:b3g128,hqq:b4g128,hqq:b8g128");
  // Pinned to at least 3 bits; to 8 bits alone; free.
  space.variables[0].levels.erase(space.variables[0].levels.begin());
  space.variables[1].levels.erase(space.variables[1].levels.begin(), space.variables[1].levels.begin() + 3);
  EXPECT_EQ(uniform_points(space), (std::vector<Point>{{0, 0, 0}, {0, 0, 1}, {1, 0, 2}, {2, 0, 3}}));
  // A choice that nobody has gives no point, and equal points count once.
  space.variables[2].levels.erase(space.variables[2].levels.begin(), space.variables[2].levels.begin() + 2);
  EXPECT_EQ(uniform_points(space), (std::vector<Point>{{0, 0, 0}, {1, 0, 0}, {2, 0, 1}}));
  // A choice that stores the linear as another one does is there under the other one's name.
  space.schemes[2][0] = space.schemes[2][2];
  EXPECT_EQ(uniform_points(space).size(), 3U);
}

}  // namespace
}  // namespace knapsaq
