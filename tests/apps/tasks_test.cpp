// Tasks as a user meets them: eval, compare, and what a report shows of them.

#include <sstream>

#include "apps/command_fixture.h"
#include "knapsaq/base/json_text.h"

namespace knapsaq {
namespace {

using testing::HasSubstr;

class TasksCommand : public CommandTest {
 protected:
  const std::string data_ = " --data " KNAPSAQ_TEST_DATA "/eval/tasks ";
};

TEST_F(TasksCommand, EvalReportsItsContract) {
  const std::string samples = scratch("samples.jsonl");
  const nlohmann::json found =
      must("eval " + llama_ + " --tasks boolq,piqa" + data_ + "--precision fp32 --json --items " + samples)
          .json();
  ASSERT_EQ(found["tasks"].size(), 2u);
  const nlohmann::json references =
      parse_json(read_file(KNAPSAQ_TEST_DATA "/eval/tasks/references.json")).at("models").at("wiki-llama-6m");
  double sum = 0;
  for (const nlohmann::json& task : found["tasks"]) {
    const nlohmann::json& expected = references.at(task["task"].get<std::string>()).at("metrics");
    EXPECT_EQ(task["acc"], expected["acc"]);
    const bool normalises = task["task"] == "piqa";
    EXPECT_EQ(task["acc_norm"], normalises ? expected["acc_norm"] : nlohmann::json(nullptr));
    sum += task[normalises ? "acc_norm" : "acc"].get<double>();
  }
  EXPECT_DOUBLE_EQ(found["average"].get<double>(), sum / 2);
  EXPECT_GT(found["items_per_second"].get<double>(), 0);
  EXPECT_FALSE(found.contains("perplexity"));
  std::istringstream lines(read_file(samples));
  std::string line;
  std::size_t count = 0;
  for (; std::getline(lines, line); ++count)
    EXPECT_EQ(nlohmann::json::parse(line)["log_likelihoods"].size(), 2u);
  EXPECT_EQ(count, 10u);

  const nlohmann::json both = must("eval " + opt_ + " --tasks winogrande --limit 3" + data_ + "--text " +
                                   text_ + " --windows 2 --json")
                                  .json();
  EXPECT_EQ(both["tasks"][0]["items"], 3);
  EXPECT_GT(both["perplexity"].get<double>(), 1);
}

TEST_F(TasksCommand, WhatIsWrongIsSaidBeforeTheModelIsLoaded) {
  expect_refused("eval " + llama_, 2, "--tasks");
  expect_refused("eval " + llama_ + " --tasks mmlu" + data_, 2, "arc_easy");
  expect_refused("eval " + llama_ + " --tasks piqa", 2, "--data");
  expect_refused("eval " + llama_ + data_ + "--text " + text_, 2, "--tasks");
  expect_refused("eval " + llama_ + " --tasks piqa --limit -1" + data_, 2, "--limit");
  expect_refused("eval " + llama_ + " --tasks piqa --data " + scratch(""), 1, "piqa.jsonl");
  expect_refused("eval " + llama_ + " --tasks piqa --run " + scratch("") + data_, 2, "holds no run");
  expect_refused("eval " + llama_ + " --text " + text_ + " --items " + scratch("s"), 2, "--items");
  write_file(scratch("piqa.jsonl"), "{\"goal\":\"a\",\"sol1\":\"b\",\"sol2\":\"c\"}\n");
  expect_refused("eval " + llama_ + " --tasks piqa --data " + scratch(""), 1,
                 "piqa.jsonl:1: there is no gold");
  write_file(scratch("piqa.jsonl"),
             "{\"goal\":\"a\",\"sol1\":\"b\",\"sol2\":\"c\",\"label\":0}\n{\"goal\"\n");
  expect_refused("eval " + llama_ + " --tasks piqa --data " + scratch(""), 1, "piqa.jsonl:2: ");
}

TEST_F(TasksCommand, CompareHasColumnsOfTasksAndTheirAverage) {
  const std::string line = "compare " + opt_ + " --text " + text_ + " --methods rtn --configurations b2g64" +
                           " --window 64 --windows 2 --tasks piqa,boolq" + data_ + "--limit 4 -o " +
                           scratch("log.csv");
  const nlohmann::json found = must(line + " --json").json();
  ASSERT_EQ(found["cases"].size(), 2u);
  for (const nlohmann::json& one : found["cases"])
    EXPECT_DOUBLE_EQ(one["average"].get<double>(),
                     (one["tasks"]["piqa"].get<double>() + one["tasks"]["boolq"].get<double>()) / 2);
  EXPECT_THAT(read_file(scratch("log.csv")), HasSubstr("quantize_seconds,piqa,boolq,average\n"));
  // Again, from the file, which keeps fewer digits of the seconds only.
  nlohmann::json again = must(line + " --json").json();
  for (std::size_t i = 0; i < again["cases"].size(); ++i)
    again["cases"][i]["quantize_seconds"] = found["cases"][i]["quantize_seconds"];
  EXPECT_EQ(again, found);
  expect_refused("compare " + opt_ + " --text " + text_ + " --methods rtn --configurations b2g64" +
                     " --window 64 --windows 2 -o " + scratch("log.csv"),
                 1, "other tasks");
}

TEST_F(TasksCommand, AReportShowsTheModelsThatWereJudged) {
  const std::string run = scratch("run");
  must("search " + opt_ + " --run " + run +
       " --menu b2g128,b4g128 --method rtn --window 64 --tokens 256 --heldout 512 --strategy uniform");
  must("eval " + opt_ + " --tasks boolq" + data_ + "--run " + run);
  must("report " + run + " -o " + scratch("page.html"));
  EXPECT_THAT(read_file(scratch("page.html")), HasSubstr("\"metric\":\"acc\",\"name\":\"boolq\""));
}

}  // namespace
}  // namespace knapsaq
