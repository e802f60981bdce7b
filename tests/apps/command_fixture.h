#pragma once

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>
#include <unistd.h>

#include "knapsaq/base/files.h"
#include "scratch.h"

namespace knapsaq {

/// What a command line came to.
struct Outcome {
  int code = -1;
  std::string out;
  std::string err;
  nlohmann::json json() const { return nlohmann::json::parse(out); }
};

/// Runs the command that was built, in a shell, as a user does.
class CommandTest : public ::testing::Test {
 protected:
  Outcome run(const std::string& arguments) {
    const std::filesystem::path out = scratch_ / "stdout";
    const std::filesystem::path err = scratch_ / "stderr";
    const std::string line = std::string(KNAPSAQ_COMMAND) + " " + arguments + " >" + out.string() + " 2>" +
                             err.string() + " </dev/null";
    const int status = std::system(line.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(out), read_file(err)};
  }
  Outcome must(const std::string& arguments) {
    Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 0) << arguments << "\n" << outcome.err;
    return outcome;
  }
  void expect_refused(const std::string& arguments, int code, const std::string& part) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, code) << arguments << "\n" << outcome.err;
    EXPECT_THAT(outcome.err, testing::HasSubstr(part)) << arguments;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
  /// Starts the command and kills it after a while, in a way that it cannot see coming. Whether it was
  /// killed before its end.
  static bool kill_after(std::chrono::milliseconds delay, const std::string& arguments) {
    const std::string line = "exec " + std::string(KNAPSAQ_COMMAND) + " " + arguments + " >/dev/null 2>&1";
    const pid_t child = ::fork();
    if (child == 0) {
      ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
      ::_exit(127);
    }
    std::this_thread::sleep_for(delay);
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFSIGNALED(status);
  }
  std::string scratch(const std::string& name) const { return (scratch_ / name).string(); }

  const std::string assets_ = KNAPSAQ_SOURCE_DIR "/assets";
  const std::string opt_ = assets_ + "/wiki-opt-3m";
  const std::string llama_ = assets_ + "/wiki-llama-6m";
  Scratch scratch_;
};

}  // namespace knapsaq
