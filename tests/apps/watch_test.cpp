#include <filesystem>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "apps/command_fixture.h"
#include "knapsaq/base/error.h"
#include "knapsaq/report/run_status.h"
#include "knapsaq/watch/launch_server.h"
#include "knapsaq/watch/server_record.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

class WatchCommand : public CommandTest {
 protected:
  WatchCommand() { fs::create_directory(run_folder()); }
  fs::path run_folder() const { return scratch_ / "run"; }
};

TEST_F(WatchCommand, ServesUntilNobodyAsksOfARunThatIsOver) {
  const Outcome outcome = must("watch " + run_folder().string() + " --exit-after 1 --json");
  EXPECT_THAT(outcome.json().at("address").get<std::string>(), testing::StartsWith("http://127.0.0.1:"));
  EXPECT_FALSE(served_at(run_folder()).has_value());
}

TEST_F(WatchCommand, RefusesWhatIsNoFolder) {
  expect_refused("watch " + (scratch_ / "nothing").string(), 2, "is no folder: give the folder of a run");
}

TEST_F(WatchCommand, AProcessOfItsOwnServesTheRun) {
  const std::string address = launch_server(KNAPSAQ_COMMAND, run_folder());
  EXPECT_EQ(served_at(run_folder()), address);
  EXPECT_EQ(launch_server(KNAPSAQ_COMMAND, run_folder()), address) << "the same one";
  const auto server = static_cast<pid_t>(read_server_record(run_folder()).value().process.id);
  EXPECT_EQ(::getsid(server), server) << "Ctrl-C in this terminal would end it";
  // Killed without a word, the next one has its address.
  ::kill(server, SIGKILL);
  ::waitpid(server, nullptr, 0);
  EXPECT_FALSE(served_at(run_folder()).has_value());
  EXPECT_EQ(launch_server(KNAPSAQ_COMMAND, run_folder()), address);
  const auto next = static_cast<pid_t>(read_server_record(run_folder()).value().process.id);
  ::kill(next, SIGTERM);
  int status = 0;
  ::waitpid(next, &status, 0);
  EXPECT_TRUE(WIFEXITED(status)) << "it ends as Ctrl-C ends it";
}

/// A search that takes a second.
constexpr const char* kSmall =
    " --strategy uniform --menu b2g64,b4g64 --method rtn --tokens 256 --heldout 256 --window 64 --samples 4 ";

TEST_F(WatchCommand, ARunTellsHowItGoes) {
  const std::string model = std::string(KNAPSAQ_SOURCE_DIR) + "/assets/wiki-opt-3m";
  const Outcome outcome = must("search " + model + " --run " + scratch("new") + kSmall + "--watch");
  EXPECT_THAT(outcome.err, testing::HasSubstr("watch: http://127.0.0.1:"));
  const ServerRecord server = read_server_record(scratch("new")).value();
  EXPECT_TRUE(is_running(server.process)) << "it outlives the search";
  ::kill(static_cast<pid_t>(server.process.id), SIGTERM);
  const RunStatus status = parse_run_status(read_file(scratch("new") + "/status.json"));
  EXPECT_EQ(status.state, RunStatus::State::finished);
  std::string log;
  for (const RunStatus::Line& line : status.log) log += line.text + "\n";
  EXPECT_THAT(log, testing::HasSubstr("search: uniform over 73 linears"));
  EXPECT_THAT(log, testing::HasSubstr("search finished"));
  // What is refused leaves the status of others alone.
  run("search " + model + " --run " + scratch("new") + " --window 32");
  EXPECT_EQ(parse_run_status(read_file(scratch("new") + "/status.json")).process, status.process);
}

TEST_F(WatchCommand, SaysWhyNothingServes) {
  try {
    launch_server(KNAPSAQ_COMMAND, scratch_ / "nothing");
    FAIL();
  } catch (const IoError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("is no folder"));
  }
  EXPECT_THROW(launch_server(scratch_ / "no-command", run_folder()), IoError);
}

}  // namespace
}  // namespace knapsaq
