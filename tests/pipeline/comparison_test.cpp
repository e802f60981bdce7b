#include "knapsaq/pipeline/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> names(const std::vector<ComparisonCase>& cases) {
  std::vector<std::string> names;
  for (const ComparisonCase& one : cases) names.push_back(one.method + " " + one.configuration);
  return names;
}

std::vector<ComparisonCase> cases(const std::vector<std::string>& methods,
                                  const std::vector<std::string>& configurations,
                                  const std::vector<std::string>& budgets) {
  return comparison_cases(methods, configurations, budgets);
}

TEST(ComparisonCases, EveryMethodByEveryConfigurationThatItCanDo) {
  EXPECT_THAT(names(cases({"rtn", "hqq", "nf4", "mxq"}, {"b4g64", "b3g128s"}, {"2.5", "3.25"})),
              ElementsAre("none ", "rtn b4g64", "rtn b3g128s", "hqq b4g64", "nf4 ", "mxq 2.5", "mxq 3.25"));
}

TEST(ComparisonCases, RefusesWhatNobodyCanDo) {
  EXPECT_THROW(cases({"best"}, {"b4g64"}, {}), UsageError);
  EXPECT_THROW(cases({"rtn"}, {"four"}, {}), UsageError);
  EXPECT_THROW(cases({"hqq"}, {"b4g64s"}, {}), UsageError);
  EXPECT_EQ(cases({"nf4", "mxq"}, {"b4g64s"}, {"3"}).size(), 3u);  // no method that looks at configurations
}

TEST(Budgets, ARangeHasBothItsEnds) {
  const std::vector<std::string> paper = parse_budgets("2.75:7.75:0.05");
  ASSERT_EQ(paper.size(), 101u);
  EXPECT_EQ(paper.front(), "2.75");
  EXPECT_EQ(paper[1], "2.80");
  EXPECT_EQ(paper.back(), "7.75");
  EXPECT_THAT(parse_budgets("3:4:0.5"), ElementsAre("3.0", "3.5", "4.0"));
  EXPECT_THAT(parse_budgets("3:3:1"), ElementsAre("3"));
  EXPECT_THAT(parse_budgets("2.5,3.125"), ElementsAre("2.5", "3.125"));
  EXPECT_THAT(parse_budgets("4"), ElementsAre("4"));
}

TEST(Budgets, RefusesWhatIsNone) {
  for (const char* text : {"", ",", "3,", "three", "3:4", "3:4:0", "4:3:1", "3:4:-1", "1:2:3:4", "nan", "inf",
                           "-3", "40", "1:30:1e-9", "3 ,4"})
    EXPECT_THROW(parse_budgets(text), UsageError) << text;
}

TEST(ComparisonCases, KnowsWhichNeedACalibration) {
  EXPECT_FALSE(needs_statistics({"none", ""}));
  EXPECT_FALSE(needs_statistics({"mxq", "3"}));
  EXPECT_FALSE(needs_statistics({"hqq", "b3g64"}));
  EXPECT_TRUE(needs_statistics({"gptq", "b3g64"}));
  EXPECT_TRUE(needs_statistics({"rtn-diag", "b3g64"}));
}

}  // namespace
}  // namespace knapsaq
