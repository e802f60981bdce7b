#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/random.h"
#include "knapsaq/search/make_space.h"
#include "knapsaq/search/mxq.h"
#include "knapsaq/search/strategies.h"

namespace knapsaq {
namespace {

SearchSpace random_space() {
  Random random(31);
  ErrorTable table;
  table.menu = parse_menu("hqq:b2g64,hqq:b3g64,hqq:b4g64").schemes;
  for (int i = 0; i < 12; ++i) {
    ErrorRow& row = table.rows.emplace_back();
    row.layer = i;
    row.module = "mlp.up_proj";
    row.name = "model.layers." + std::to_string(i) + ".mlp.up_proj";
    row.parameters = 64 * 64;
    for (const Scheme& scheme : table.menu)
      row.cells.push_back({scheme, random.uniform() / scheme.bits, storage_bytes(scheme, 64, 64)});
  }
  return make_space(table, "none", {}, Cost::fnorm, {});
}

TEST(MxqStrategy, AsksOnceForTheOptimaOfTheTable) {
  const SearchSpace space = random_space();
  const StrategyInfo info = mxq_strategy();
  EXPECT_EQ(info.name, "mxq");
  StrategySetup setup;
  setup.space = &space;
  OptionValues options(info.options);
  options.set("points=9");
  const auto strategy = info.make(setup, options);
  const Batch batch = strategy->ask();
  EXPECT_EQ(batch.points, mxq_points(space, 9));
  EXPECT_GT(batch.points.size(), 3U);
  EXPECT_EQ(batch.windows, 0);
  strategy->tell(batch, std::vector<Measurement>(batch.points.size()));
  EXPECT_TRUE(strategy->ask().points.empty());
}

TEST(MxqStrategy, MinimisesTheErrorsThatItIsTold) {
  SearchSpace space = random_space();
  Random random(7);
  SearchSpace other = space;
  other.cost = Cost::fisher;
  for (std::size_t v = 0; v < space.variables.size(); ++v)
    for (std::size_t l = 0; l < space.variables[v].levels.size(); ++l) {
      const double cost = random.uniform() / static_cast<double>(1 + l);
      space.variables[v].levels[l].errors[static_cast<std::size_t>(Cost::fisher)] = cost;
      other.variables[v].levels[l].error = cost;
    }
  const StrategyInfo info = mxq_strategy();
  StrategySetup setup;
  setup.space = &space;
  const auto points = [&](const std::string& cost) {
    OptionValues options(info.options);
    options.set("cost=" + cost);
    return info.make(setup, options)->ask().points;
  };
  EXPECT_EQ(points("fisher"), mxq_points(other, 32));
  EXPECT_EQ(points("usual"), mxq_points(space, 32));
  EXPECT_NE(points("fisher"), points("usual"));
  EXPECT_THROW(points("hessian"), UsageError);  // unknown
  EXPECT_THROW(points("best"), UsageError);
}

TEST(MxqStrategy, KeepsToEvaluationsAndMeetsTheBudget) {
  const SearchSpace space = random_space();
  const StrategyInfo info = mxq_strategy();
  StrategySetup setup;
  setup.space = &space;
  setup.evaluations = 3;
  setup.budget = Budget{space.linear_bytes(space.smallest()) + 1000, Budget::Of::linears};
  const Batch batch = info.make(setup, OptionValues(info.options))->ask();
  ASSERT_LE(batch.points.size(), 3U);
  EXPECT_THAT(batch.points, testing::Contains(mxq_points(space, 1, setup.budget).front()));
}

TEST(MxqStrategy, RefusesNoPoints) {
  const SearchSpace space = random_space();
  const StrategyInfo info = mxq_strategy();
  StrategySetup setup;
  setup.space = &space;
  OptionValues options(info.options);
  options.set("points=0");
  EXPECT_THROW(info.make(setup, options), UsageError);
}

}  // namespace
}  // namespace knapsaq
