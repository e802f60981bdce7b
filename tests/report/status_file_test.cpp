#include "knapsaq/report/status_file.h"

#include <cmath>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/report/run_status.h"
#include "knapsaq/search/run_files.h"
#include "scratch.h"
#include "search/made_space.h"

namespace knapsaq {
namespace {

using testing::HasSubstr;

/// Lines of the log, one behind the other.
std::string log_of(const RunStatus& status) {
  std::string text;
  for (const RunStatus::Line& line : status.log) text += line.text + "\n";
  return text;
}

class StatusFileTest : public testing::Test {
 protected:
  RunStatus read() const { return parse_run_status(read_file(scratch_ / kStatusName)); }

  /// What the file says as soon as it is as expected. The writer has its own clock: a test that waits in vain
  /// ends by ctest's time limit.
  RunStatus read_when(const std::function<bool(const RunStatus&)>& expected) const {
    while (true) {
      if (std::filesystem::exists(scratch_ / kStatusName)) {
        RunStatus status = read();
        if (expected(status)) return status;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  Scratch scratch_;
};

TEST_F(StatusFileTest, TellsStagesWhileTheyLast) {
  StatusFile file(scratch_.path());
  const ProgressScope outer(file, "building the bank", 42, "linears");
  file.advance(2);
  {
    ProgressScope inner(file, "calibrating", 1000, "tokens");
    inner.advance(100);
    const RunStatus status =
        read_when([](const RunStatus& one) { return one.stage && one.stage->done == 100; });
    EXPECT_EQ(status.state, RunStatus::State::running);
    EXPECT_TRUE(is_running(status.process));
    EXPECT_EQ(status.stage->name, "calibrating");
    EXPECT_EQ(status.stage->total, 1000U);
    EXPECT_EQ(status.stage->unit, "tokens");
    EXPECT_GT(status.stage->rate, 0);
    EXPECT_GT(status.stage->left, 0);
    EXPECT_GT(status.resident, 0U);
    EXPECT_GE(status.peak, status.resident);
  }
  const RunStatus status =
      read_when([](const RunStatus& one) { return one.stage && one.stage->name != "calibrating"; });
  EXPECT_EQ(status.stage->name, "building the bank");
  EXPECT_EQ(status.stage->done, 2U);
}

TEST_F(StatusFileTest, TellsHowASearchGoes) {
  const SearchSpace space = made_space(6);
  const Point small = space.smallest();
  const Point large = space.largest();
  Measurement measurement;
  measurement.kl = 0.25;
  {
    StatusFile file(scratch_.path());
    file.budget({space.bytes(small), Budget::Of::files});
    file.search_begins(space, Divergence::kl, "front", true);
    SearchStatus status;
    status.phase = "extremes";
    status.planned = 2;
    status.expected = 100;
    status.evaluations = status.measured = 1;
    status.point = &small;
    status.measurement = &measurement;
    file.searching(status);
    // Better, and too large for the budget.
    Measurement better = measurement;
    better.kl = 0.01;
    status.point = &large;
    status.measurement = &better;
    status.evaluations = 2;
    file.searching(status);
    const RunStatus told =
        read_when([](const RunStatus& one) { return one.search && one.search->evaluations == 2; });
    EXPECT_EQ(told.search->strategy, "front");
    EXPECT_EQ(told.search->phase, "extremes");
    EXPECT_EQ(told.search->expected, 100);
    EXPECT_TRUE(told.search->can_stop);
    EXPECT_EQ(told.budget, (Budget{space.bytes(small), Budget::Of::files}));
    EXPECT_THAT(log_of(told), HasSubstr("extremes: 2 candidates"));
    status.phase = "round 1";
    file.searching(status);
    file.finished("wrote OUT");
  }
  const RunStatus ended = read();
  EXPECT_EQ(ended.state, RunStatus::State::finished);
  EXPECT_FALSE(ended.search.has_value());
  EXPECT_FALSE(ended.stage.has_value());
  EXPECT_THAT(log_of(ended), HasSubstr("best at the budget: KL divergence 0.25 with"));
  EXPECT_THAT(log_of(ended), HasSubstr("wrote OUT"));
}

TEST_F(StatusFileTest, SaysHowItEnded) {
  { const StatusFile file(scratch_.path()); }
  EXPECT_EQ(read().state, RunStatus::State::stopped);
  {
    StatusFile file(scratch_.path());
    file.failed("OUT: the disk is full");
  }
  EXPECT_EQ(read().state, RunStatus::State::failed);
  EXPECT_EQ(log_of(read()), "OUT: the disk is full\n");
}

TEST_F(StatusFileTest, KeepsTheLatestLines) {
  {
    StatusFile file(scratch_.path());
    for (int i = 0; i < 1000; ++i) file.note(std::to_string(i));
    file.finished("end");
  }
  const RunStatus status = read();
  ASSERT_EQ(status.log.size(), 300U);
  EXPECT_EQ(status.log.front().text, "701");
  EXPECT_EQ(status.log.back().text, "end");
}

TEST_F(StatusFileTest, AFolderThatIsNotThereIsNotMade) {
  {
    StatusFile file(scratch_ / "later");
    file.note("nobody hears this");
  }
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "later"));
}

TEST_F(StatusFileTest, WhatCannotBeWrittenFailsNothing) {
  std::filesystem::create_directory(scratch_ / kStatusName);  // a folder takes the file's name
  {
    StatusFile file(scratch_.path());
    file.finished("all is well");
  }
  EXPECT_TRUE(std::filesystem::is_directory(scratch_ / kStatusName));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(scratch_.path()), {}), 1);
}

TEST(RunStatus, IsReadBack) {
  RunStatus status;
  status.process = {17, "boot 4"};
  status.state = RunStatus::State::failed;
  status.started = 1.5;
  status.stage = {"s", "units", 1, 2, 3, 4, std::nan("")};
  status.search = {"front", "round 1", 1, 2, 3, 4, 5, std::nan(""), 6, true};
  status.budget = Budget{7, Budget::Of::linears};
  status.resident = 8;
  status.log = {{9, "a \xFF b"}};
  const std::string text = to_text(status);
  const RunStatus read = parse_run_status(text);
  EXPECT_EQ(to_text(read), text);
  EXPECT_EQ(read.log.at(0).text, "a \xEF\xBF\xBD b");
  EXPECT_TRUE(std::isnan(read.stage->left));
}

TEST(RunStatus, RefusesEverythingElse) {
  const nlohmann::json good = nlohmann::json::parse(to_text(RunStatus{}));
  EXPECT_NO_THROW(parse_run_status(good.dump()));
  for (const auto& [key, value] : good.items()) {
    nlohmann::json bad = good;
    bad.erase(key);
    EXPECT_THROW(parse_run_status(bad.dump()), InputError) << "without " << key;
    bad[key] = nlohmann::json::array({nlohmann::json::object()});
    EXPECT_THROW(parse_run_status(bad.dump()), InputError) << "another " << key;
  }
  nlohmann::json bad = good;
  bad["process"]["id"] = -1;
  EXPECT_THROW(parse_run_status(bad.dump()), InputError);
  EXPECT_THROW(parse_run_status(""), InputError);
  EXPECT_THROW(parse_run_status("[]"), InputError);
}

}  // namespace
}  // namespace knapsaq
