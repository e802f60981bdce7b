#include "knapsaq/report/study_facts.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json spread_of(double middle) {
  return {{"count", 2},          {"mean", middle},   {"deviation", 0.5},      {"minimum", middle - 2},
          {"lower", middle - 1}, {"median", middle}, {"upper", middle + 1.5}, {"maximum", middle + 3}};
}

json strategy(const std::string& name, double goal) {
  json band;
  for (const char* key : {"mean", "deviation", "minimum", "lower", "median", "upper", "maximum"})
    band[key] = {nullptr, std::string(key) == "upper" ? goal + 1 : goal};
  const json run = {{"bits", {2, 4}}, {"bits_per_weight", 3.25}};
  return {{"name", name},
          {"runs", {run, run}},
          {"summary",
           {{"goal", spread_of(goal)},
            {"perplexity", spread_of(70)},
            {"divergence", spread_of(5)},
            {"full_passes", spread_of(90)}}},
          {"band", band}};
}

json made_study() {
  return {{"format", "knapsaq-study"},
          {"version", 1},
          {"goal", {{"name", "paper"}, {"label", "fitness"}, {"sign", -1}}},
          {"evaluations", 2},
          {"strategies", {strategy("ga", -10), strategy("pso", -8)}},
          {"tests",
           {{{"a", "ga"},
             {"b", "pso"},
             {"rank_sum", {{"z", -2.0}, {"p", 0.03}}},
             {"holm", 0.06},
             {"mann_whitney", {{"u", 1}, {"p", 0.02}, {"exact", true}}},
             {"a_better", 0.9}}}},
          {"baselines",
           {{{"name", "NF4"},
             {"bits_per_weight", 4.127},
             {"bytes", 1000},
             {"perplexity", 69.0},
             {"fitness", 0.09},
             {"divergence", nullptr}}}}};
}

TEST(StudyFacts, FitnessIsPositiveAndLargeIsGood) {
  const ReportStudy study = parse_study(made_study().dump(), 2);
  EXPECT_TRUE(study.larger_is_better);
  EXPECT_EQ(study.value_name, "fitness");
  ASSERT_EQ(study.groups.size(), 2u);
  const ReportStudy::Group& ga = study.groups[0];
  EXPECT_EQ(ga.strategy, "ga");
  EXPECT_EQ(ga.runs, 2u);
  EXPECT_DOUBLE_EQ(ga.value.median, 10);
  EXPECT_DOUBLE_EQ(ga.value.minimum, 7);
  EXPECT_DOUBLE_EQ(ga.value.lower, 8.5);
  EXPECT_DOUBLE_EQ(ga.value.maximum, 12);
  EXPECT_DOUBLE_EQ(ga.bits_per_weight, 3.25);
  ASSERT_EQ(ga.band.size(), 2u);
  EXPECT_TRUE(std::isnan(ga.band[0].median));
  EXPECT_DOUBLE_EQ(ga.band[1].lower, 9);
  EXPECT_EQ(ga.bits, (std::vector<std::vector<double>>{{2, 4}, {2, 4}}));
  ASSERT_EQ(study.tests.size(), 1u);
  EXPECT_EQ(study.tests[0].b, 1u);
  EXPECT_DOUBLE_EQ(study.tests[0].exact, 0.02);
  ASSERT_EQ(study.baselines.size(), 1u);
  EXPECT_DOUBLE_EQ(study.baselines[0].value, 0.09);
}

TEST(StudyFacts, OutcomesOfAnotherSpaceAreLeftOut) {
  EXPECT_TRUE(parse_study(made_study().dump(), 42).groups[0].bits.empty());
}

TEST(StudyFacts, OneStrategyWithTwoSettingsIsTwo) {
  json study = made_study();
  study["strategies"] = {strategy("ga", -10), strategy("ga", -8)};
  study["tests"][0]["a"] = "ga#0";
  study["tests"][0]["b"] = "ga#1";
  EXPECT_EQ(parse_study(study.dump(), 2).groups[1].strategy, "ga#1");
}

TEST(StudyFacts, RefusesWhatIsNoStudy) {
  const auto message = [](const std::string& text) -> std::string {
    try {
      parse_study(text, 2);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message("{"), HasSubstr("study: "));
  EXPECT_THAT(message("[]"), HasSubstr("study: "));
  json study = made_study();
  study["version"] = 2;
  EXPECT_THAT(message(study.dump()), HasSubstr("not a study"));
  study = made_study();
  study["evaluations"] = 1'000'000'000'000;
  EXPECT_THAT(message(study.dump()), HasSubstr("evaluations"));
  study = made_study();
  study["evaluations"] = 3;  // more than the curves have
  EXPECT_THAT(message(study.dump()), HasSubstr("fewer points than there are evaluations"));
  study = made_study();
  study["tests"][0]["a"] = "tabu";
  EXPECT_THAT(message(study.dump()), HasSubstr("a strategy that the study does not have"));
  study = made_study();
  study["strategies"][0]["summary"].erase("goal");
  EXPECT_THAT(message(study.dump()), HasSubstr("goal"));
}

}  // namespace
}  // namespace knapsaq
