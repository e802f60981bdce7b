#include <filesystem>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "apps/command_fixture.h"
#include "knapsaq/base/error.h"
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
