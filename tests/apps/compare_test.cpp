// `knapsaq compare` as a user meets it, killed in the middle included.

#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "knapsaq/base/files.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const std::string kModel = std::string(KNAPSAQ_SOURCE_DIR) + "/assets/wiki-llama-6m";
const std::string kText = std::string(KNAPSAQ_SOURCE_DIR) + "/assets/wiki-llama-6m-sample.txt";

std::vector<std::string> arguments(const std::string& csv) {
  return {"compare",
          kModel,
          "--text",
          kText,
          "-o",
          csv,
          "--methods",
          "rtn,gptq,mxq",
          "--configurations",
          "b3g64",
          "--budgets",
          "2.5:3.5:0.5",
          "--window",
          "64",
          "--windows",
          "4",
          "--samples",
          "8",
          "--calibration-window",
          "64"};
}

/// Starts the command with its output thrown away.
pid_t start(const std::vector<std::string>& arguments) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  std::vector<char*> words{const_cast<char*>(KNAPSAQ_COMMAND)};
  for (const std::string& word : arguments) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  static_cast<void>(std::freopen("/dev/null", "w", stdout));
  ::execv(KNAPSAQ_COMMAND, words.data());
  ::_exit(127);
}

int finish(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// The rows without the last column, the seconds.
std::vector<std::string> rows(const fs::path& csv) {
  std::vector<std::string> rows;
  std::istringstream lines(read_file(csv));
  for (std::string line; std::getline(lines, line);) rows.push_back(line.substr(0, line.rfind(',')));
  return rows;
}

TEST(Compare, GoesOnAfterAKillAndEndsWithTheSameRows) {
  const Scratch scratch;
  ASSERT_EQ(finish(start(arguments((scratch / "whole.csv").string()))), 0);
  const std::vector<std::string> whole = rows(scratch / "whole.csv");
  ASSERT_EQ(whole.size(), 1u + 1 + 2 + 3);  // header, the model itself, rtn and gptq, three budgets

  // Killed after each row but the last.
  const fs::path csv = scratch / "killed.csv";
  for (std::size_t wanted = 1; wanted < whole.size(); ++wanted) {
    const pid_t child = start(arguments(csv.string()));
    bool running = true;
    while (running && !(fs::exists(csv) && rows(csv).size() >= wanted)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      running = ::waitpid(child, nullptr, WNOHANG) == 0;
    }
    if (!running) break;  // it was faster than this test looked
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  ASSERT_EQ(finish(start(arguments(csv.string()))), 0);
  EXPECT_EQ(rows(csv), whole);
}

TEST(Compare, AnotherTextIsAnotherComparison) {
  const Scratch scratch;
  std::vector<std::string> words = arguments((scratch / "log.csv").string());
  ASSERT_EQ(finish(start(words)), 0);
  const std::string before = read_file(scratch / "log.csv");
  words[3] = (scratch / "other.txt").string();
  write_file(words[3], read_file(kText) + "\nMore.\n");
  EXPECT_EQ(finish(start(words)), 1);
  EXPECT_EQ(read_file(scratch / "log.csv"), before);
}

}  // namespace
}  // namespace knapsaq
