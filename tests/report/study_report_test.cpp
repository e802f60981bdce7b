#include "knapsaq/report/study_report.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/files.h"
#include "knapsaq/search/goal.h"
#include "scratch.h"

namespace knapsaq {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

SearchSpace made_space() {
  SearchSpace space;
  for (int i = 0; i < 3; ++i) {
    Variable& variable = space.variables.emplace_back();
    variable.name = "model.layers." + std::to_string(i) + ".self_attn.q_proj +6";
    variable.block = i;
    variable.parameters = 100;
    for (std::size_t l = 0; l < 3; ++l)
      variable.levels.push_back({l, 25 + 13 * l, 2.0 + static_cast<double>(l), 0});
  }
  space.parameters = 300;
  return space;
}

StudyRun made_run(std::uint64_t seed, std::vector<double> curve, Point point, double perplexity) {
  StudyRun run;
  run.seed = seed;
  run.curve = std::move(curve);
  run.goal = run.curve.back();
  run.point = std::move(point);
  for (const std::uint8_t level : run.point) run.bits.push_back(2.0 + level);
  for (const double bits : run.bits) run.sum_bits += bits;
  run.measurement.loss = std::log(perplexity);
  run.measurement.kl = 0.25;
  run.fitness = paper_fitness(perplexity, run.sum_bits);
  run.bits_per_weight = 3.25;
  run.linear_bytes = 114;
  run.bytes = 1114;
  run.distinct = 3;
  return run;
}

Study made_study() {
  Study study;
  study.goal = "paper";
  study.repeats = 2;
  study.evaluations = 3;
  study.seed = 5;
  study.groups.resize(2);
  study.groups[0].strategy = "ga";
  study.groups[0].options = "population=10 epochs=10";
  study.groups[0].runs = {made_run(5, {kNan, -2, -3}, {0, 1, 2}, 40),
                          made_run(6, {-1, -2, -2.5}, {0, 0, 0}, 50)};
  study.groups[1].strategy = "ga";
  study.groups[1].options = "population=10 epochs=10 elitism=1";
  study.groups[1].runs = {made_run(5, {-4, -4, -4}, {0, 1, 2}, 30), made_run(6, {-4, -5, -5}, {1, 1, 1}, 25)};
  study.baselines.push_back({"NF4, double \"quantization\"", 4.127, 2000, 12, 33, paper_fitness(33, 12), {}});
  study.baselines.push_back({"uniform b4g128", 4.25, 2100, 12, 32, paper_fitness(32, 12), 0.01});
  summarize(study);
  return study;
}

TEST(StudyReport, JsonHasWhatTheHeaderSays) {
  const nlohmann::json json = study_json(made_study(), made_space());
  EXPECT_EQ(json["format"], "knapsaq-study");
  EXPECT_EQ(json["version"], 1);
  EXPECT_EQ(json["goal"]["name"], "paper");
  EXPECT_EQ(json["goal"]["sign"], -1);
  EXPECT_TRUE(json["budget"].is_null());
  EXPECT_EQ(json["evaluations"], 3);
  ASSERT_EQ(json["variables"].size(), 3U);
  EXPECT_EQ(json["variables"][2]["block"], 2);
  EXPECT_EQ(json["variables"][0]["bits"], nlohmann::json({2.0, 3.0, 4.0}));
  ASSERT_EQ(json["strategies"].size(), 2U);
  const nlohmann::json& run = json["strategies"][0]["runs"][0];
  EXPECT_TRUE(run["curve"][0].is_null());
  EXPECT_EQ(run["curve"][2], -3.0);
  EXPECT_EQ(run["levels"], nlohmann::json({0, 1, 2}));
  EXPECT_EQ(run["bits"], nlohmann::json({2.0, 3.0, 4.0}));
  EXPECT_NEAR(run["perplexity"].get<double>(), 40, 1e-9);
  EXPECT_EQ(run["divergence"], 0.25);
  for (const char* field : {"seed", "goal", "fitness", "agreement", "sum_bits", "bits_per_weight",
                            "linear_bytes", "bytes", "distinct", "full_passes", "seconds"})
    EXPECT_TRUE(run[field].is_number()) << field;
  const nlohmann::json& strategy = json["strategies"][0];
  EXPECT_EQ(strategy["summary"]["goal"]["median"], -2.75);
  EXPECT_EQ(strategy["summary"]["sum_bits"]["maximum"], 9.0);
  EXPECT_TRUE(strategy["band"]["median"][0].is_null()) << "a run has no value yet";
  EXPECT_EQ(strategy["band"]["median"][1], -2.0);
  EXPECT_EQ(strategy["band"]["upper"].size(), 3U);
  ASSERT_EQ(json["tests"].size(), 1U);
  EXPECT_EQ(json["tests"][0]["a"], "ga#0");
  EXPECT_EQ(json["tests"][0]["b"], "ga#1");
  EXPECT_EQ(json["tests"][0]["a_better"], 0.0);
  EXPECT_EQ(json["tests"][0]["mann_whitney"]["exact"], true);
  EXPECT_NEAR(json["tests"][0]["mann_whitney"]["p"].get<double>(), 1.0 / 3, 1e-12);
  ASSERT_EQ(json["baselines"].size(), 2U);
  EXPECT_TRUE(json["baselines"][0]["divergence"].is_null());
  EXPECT_EQ(json["baselines"][1]["divergence"], 0.01);
}

TEST(StudyReport, NumbersThatDoNotExistAreNull) {
  Study study = made_study();
  study.divergence = Divergence::jsd;  // not measured
  study.goal = "budget";
  study.budget = Budget{120, Budget::Of::linears};
  study.baselines[0].perplexity = std::numeric_limits<double>::infinity();
  const nlohmann::json json = study_json(study, made_space());
  EXPECT_EQ(json["goal"]["sign"], 1);
  EXPECT_EQ(json["budget"], 120);
  EXPECT_EQ(json["budget_of"], "linears");
  EXPECT_TRUE(json["strategies"][0]["runs"][0]["divergence"].is_null());
  EXPECT_TRUE(json["baselines"][0]["perplexity"].is_null());
  EXPECT_EQ(json.dump().find("nan"), std::string::npos);
}

/// Fields of the lines of a CSV text, quotes resolved.
std::vector<std::vector<std::string>> parse_csv_text(const std::string& text) {
  std::vector<std::vector<std::string>> rows(1, std::vector<std::string>(1));
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '"' && i + 1 < text.size() && text[i + 1] == '"') {
      rows.back().back() += text[++i];
    } else if (c == '"') {
      quoted = !quoted;
    } else if (!quoted && c == ',') {
      rows.back().emplace_back();
    } else if (!quoted && c == '\n') {
      rows.emplace_back(1);
    } else {
      rows.back().back() += c;
    }
  }
  rows.pop_back();
  return rows;
}

TEST(StudyReport, FilesOfTheFolder) {
  const Scratch scratch;
  const Study study = made_study();
  write_study(study, made_space(), scratch.path());
  EXPECT_EQ(nlohmann::json::parse(read_file(scratch / "study.json")), study_json(study, made_space()));

  const auto runs = parse_csv_text(read_file(scratch / "runs.csv"));
  ASSERT_EQ(runs.size(), 1U + 4 + 2);
  for (const std::vector<std::string>& row : runs) EXPECT_EQ(row.size(), runs[0].size());
  EXPECT_EQ(runs[1][1], "ga#0");
  EXPECT_EQ(runs[1].back(), "2 3 4");
  EXPECT_EQ(runs[5][0], "baseline");
  EXPECT_EQ(runs[5][1], "NF4, double \"quantization\"");
  const auto column = [&](std::string_view name) {
    return static_cast<std::size_t>(std::find(runs[0].begin(), runs[0].end(), name) - runs[0].begin());
  };
  EXPECT_EQ(runs[5][column("perplexity")], "33");
  EXPECT_EQ(runs[5][column("divergence")], "");
  EXPECT_EQ(runs[6][column("divergence")], "0.01");
  EXPECT_EQ(runs[6][column("bytes")], "2100");
  EXPECT_EQ(runs[1][column("bytes")], "1114");

  const auto curves = parse_csv_text(read_file(scratch / "curves.csv"));
  ASSERT_EQ(curves.size(), 1U + 12);
  EXPECT_EQ(curves[1], (std::vector<std::string>{"ga#0", "5", "1", ""}));
  EXPECT_EQ(curves[2], (std::vector<std::string>{"ga#0", "5", "2", "-2"}));
  const auto tests = parse_csv_text(read_file(scratch / "tests.csv"));
  ASSERT_EQ(tests.size(), 2U);
  EXPECT_EQ(tests[1].size(), tests[0].size());
}

TEST(StudyReport, TableNamesEverything) {
  const std::string table = study_table(made_study());
  for (const char* text :
       {"ga#0 x 2", "ga#1 x 2", "NF4", "uniform b4g128", "ga#0 / ga#1", "no difference shown"})
    EXPECT_NE(table.find(text), std::string::npos) << text << "\n" << table;
}

}  // namespace
}  // namespace knapsaq
