#include "knapsaq/search/mxq.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/search/make_space.h"
#include "scratch.h"

namespace knapsaq {
namespace {

ErrorTable small_table() {
  ErrorTable table;
  table.menu = parse_menu("hqq:b2g64,hqq:b4g64").schemes;
  const auto add = [&](const char* module, double two, double four) {
    ErrorRow& row = table.rows.emplace_back();
    row.module = module;
    row.name = std::string("model.layers.0.") + module;
    row.parameters = 800;
    row.cells = {{table.menu[0], two, 250}, {table.menu[1], four, 450}};
  };
  add("self_attn.q_proj", 9, 2);
  add("self_attn.k_proj", 4, 1);
  add("self_attn.v_proj", 8, 3);
  return table;
}

TEST(AllocateMxq, SpendsTheBudgetWhereItSavesMost) {
  const Allocation allocation = allocate_mxq(small_table(), 250 + 450 + 450);
  EXPECT_EQ(allocation.objective, 2 + 4 + 3);
  EXPECT_EQ(allocation.bytes, 1150U);
  EXPECT_DOUBLE_EQ(allocation.bits, 8 * 1150 / 2400.0);
  EXPECT_EQ(to_string(allocation.schemes[1]), "hqq:b2g64");
}

TEST(AllocateMxq, TiesCostWhatTheyMust) {
  const Allocation allocation = allocate_mxq(small_table(), 1150, "qkv");
  EXPECT_EQ(allocation.bytes, 750U);
  EXPECT_EQ(allocation.objective, 21);
}

TEST(AllocateMxq, BudgetOfBitsIsAnAverageOverAllLinears) {
  EXPECT_EQ(budget_bytes(small_table(), 2.5), 750U);
  try {
    allocate_mxq(small_table(), budget_bytes(small_table(), 2.49));
    FAIL() << "must not be feasible";
  } catch (const InfeasibleError& error) {
    EXPECT_EQ(error.smallest(), 750);
    EXPECT_THAT(error.what(), testing::HasSubstr("750 bytes (2.5000 bits per weight)"));
  }
}

TEST(MxqPoints, AreTheOptimaAlongTheSizes) {
  const ErrorTable table = small_table();
  const SearchSpace space = make_space(table, "none", {}, Cost::fnorm, {});
  const std::vector<Point> points = mxq_points(space, 4);
  // 7 saved at q, then 5 at v, then 3 at k.
  EXPECT_THAT(points, testing::ElementsAre(Point{0, 0, 0}, Point{1, 0, 0}, Point{1, 0, 1}, Point{1, 1, 1}));
  EXPECT_EQ(mxq_points(space, 100), points);
  EXPECT_TRUE(mxq_points(space, 0, Budget{1000, Budget::Of::linears}).empty());
  EXPECT_THAT(mxq_points(space, 1), testing::ElementsAre(Point{1, 1, 1}));
  EXPECT_THAT(mxq_points(space, 1, Budget{1149, Budget::Of::linears}), testing::ElementsAre(Point{1, 0, 0}));
  EXPECT_THAT(mxq_points(space, 2, Budget{1151, Budget::Of::linears}),
              testing::ElementsAre(Point{0, 0, 0}, Point{1, 0, 1}));
  EXPECT_THAT(mxq_points(space, 2, Budget{749, Budget::Of::linears}),
              testing::ElementsAre(Point{0, 0, 0}, Point{1, 1, 1}));
  for (const Point& point : points) {
    const std::uint64_t budget = space.linear_bytes(point);
    EXPECT_EQ(allocate_mxq(table, budget).schemes, space.allocation(point));
  }
}

TEST(MxqPoints, NameTheLinearWhoseErrorIsUnknown) {
  const SearchSpace space = make_space(small_table(), "none", {}, Cost::hessian, {});
  try {
    mxq_points(space, 4);
    FAIL() << "must be refused";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("model.layers.0.self_attn.q_proj"));
  }
}

TEST(AllocateMxq, ReachesTheProvenOptimaOnLlama2) {
  const std::filesystem::path folder = shared_folder();
  if (folder.empty()) GTEST_SKIP() << "needs shared/tables beside the project";
  const ErrorTable table = read_csv(folder / "tables" / "fnorm-llama-2-7b.csv");
  const std::pair<double, double> optima[] = {{3.25, 4195.6015625}, {3.07, 4955.0390625}, {4.51, 1685.4072}};
  for (const auto& [bits, optimum] : optima) {
    const Allocation allocation = allocate_mxq(table, budget_bytes(table, bits));
    EXPECT_NEAR(allocation.objective, optimum, 1e-6 * optimum) << bits;
    EXPECT_LE(allocation.bits, bits);
    EXPECT_LE(allocation.gap, 1e-6) << bits;
  }
}

}  // namespace
}  // namespace knapsaq
