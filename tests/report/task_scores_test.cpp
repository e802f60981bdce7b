#include "knapsaq/report/task_scores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using testing::HasSubstr;

TaskScores made(const std::string& model, std::uint64_t bytes) {
  TaskScores scores{.model = model,
                    .bytes = bytes,
                    .bits = 3.25,
                    .precision = "bf16",
                    .data = "0123456789abcdef",
                    .tasks = {},
                    .average = {.value = 0.45, .standard_error = 0.02}};
  scores.tasks.push_back({"piqa", 100, {0.5, 0.05}, Accuracy{0.4, 0.03}});
  scores.tasks.push_back({"boolq", 90, {0.5, 0.05}, {}});
  return scores;
}

TEST(TaskScores, AreKeptInARun) {
  const Scratch scratch;
  EXPECT_TRUE(read_task_scores(scratch.path()).empty());
  keep_task_scores(made("large", 2000), scratch.path(), "models/large");
  keep_task_scores(made("small", 1000), scratch.path(), "models/small");
  TaskScores again = made("small", 1000);
  again.average.value = 0.5;
  keep_task_scores(again, scratch.path(), "models/small");  // instead of what was there
  keep_task_scores(made("small", 1500), scratch.path(), "others/small");
  const std::vector<TaskScores> all = read_task_scores(scratch.path());
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].bytes, 1000u);
  EXPECT_EQ(all[0].average.value, 0.5);
  EXPECT_EQ(all[1].bytes, 1500u);
  EXPECT_EQ(all[2].model, "large");
  ASSERT_EQ(all[2].tasks.size(), 2u);
  EXPECT_EQ(all[2].tasks[0].counted().value, 0.4);
  EXPECT_EQ(all[2].tasks[1].counted().value, 0.5);
  EXPECT_EQ(all[2].tasks[1].items, 90u);
  EXPECT_EQ(all[2].data, "0123456789abcdef");
}

TEST(TaskScores, RefuseWhatIsNone) {
  const Scratch scratch;
  keep_task_scores(made("m", 1), scratch.path(), "m");
  const std::string file = std::filesystem::directory_iterator(scratch / "tasks")->path().string();
  const std::string good = read_file(file);
  EXPECT_NO_THROW(parse_task_scores(good));
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"0.45", "1.45"},
                                 {"0.45", "null"},
                                 {"\"boolq\"", "3"},
                                 {"\"version\": 1", "\"version\": 2"},
                                 {"knapsaq-task-scores", "knapsaq-study"},
                                 {"\"bits\"", "\"bats\""}}) {
    std::string bad = good;
    bad.replace(bad.find(from), from.size(), to);
    EXPECT_THROW(parse_task_scores(bad), InputError) << to;
  }
  for (const char* bad : {"", "[]", "{}", "3", "{\"format\":[]}"})
    EXPECT_THROW(parse_task_scores(bad), InputError);
  write_file(file, good.substr(0, good.size() / 2));
  try {
    static_cast<void>(read_task_scores(scratch.path()));
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr(file));
  }
}

}  // namespace
}  // namespace knapsaq
