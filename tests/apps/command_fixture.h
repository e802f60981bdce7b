#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "command.h"
#include "intervention.h"
#include "scratch.h"

namespace knapsaq {

/// Runs the command that was built.
class CommandTest : public ::testing::Test {
 protected:
  /// `environment`: assignments of variables before the command.
  Outcome run(const std::string& arguments, const std::string& environment = {}) {
    return run_line(scratch_.path(), environment + KNAPSAQ_COMMAND + " " + arguments);
  }
  /// Any line of the shell, with its output looked at.
  Outcome run_shell(const std::string& line) { return run_line(scratch_.path(), line); }
  Outcome must(const std::string& arguments, const std::string& environment = {}) {
    Outcome outcome = run(arguments, environment);
    EXPECT_EQ(outcome.code, 0) << arguments << "\n" << outcome.err;
    return outcome;
  }
  /// Fails with `code` and one line that holds `part`; prints nothing else but notes, which come before.
  void expect_refused(const std::string& arguments, int code, const std::string& part) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, code) << arguments << "\n" << outcome.err;
    EXPECT_THAT(outcome.err, testing::HasSubstr(part)) << arguments;
    std::string_view error = outcome.err;
    while (error.starts_with("note: ")) error.remove_prefix(error.find('\n') + 1);
    EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
  std::string scratch(const std::string& name) const { return (scratch_ / name).string(); }

  /// {name} stands for that file or folder of the scratch folder.
  std::string filled(std::string line) const {
    for (std::size_t open; (open = line.find('{')) != std::string::npos;) {
      const std::size_t close = line.find('}', open);
      line.replace(open, close - open + 1, scratch(line.substr(open + 1, close - open - 1)));
    }
    return line;
  }
  /// All verbs and options, as the program itself knows them.
  const nlohmann::json& table() {
    static const nlohmann::json all = must("completion json").json();
    return all;
  }

  /// The letters of the calls of the system that a command makes which nothing happens to.
  std::string calls_of(const std::string& arguments) {
    must(arguments, with_trace(scratch_ / "calls"));
    return read_file(scratch_ / "calls");
  }
  /// Runs a command that goes on where it was again and again until it ends by itself, killed `step` calls
  /// that write further every time. How many kills that took.
  int kill_until_done(const std::string& arguments, std::size_t step) {
    int kills = 0;
    for (std::size_t at = step;; at += step) {
      const Outcome outcome = run(arguments, with({"kill", kWriting, at}));
      if (outcome.code == 0) return kills;
      EXPECT_EQ(outcome.code, 128 + SIGKILL) << outcome.err;
      if (testing::Test::HasFailure()) return kills;
      ++kills;
    }
  }

  const std::string assets_ = KNAPSAQ_SOURCE_DIR "/assets";
  const std::string opt_ = assets_ + "/wiki-opt-3m";
  const std::string llama_ = assets_ + "/wiki-llama-6m";
  const std::string text_ = assets_ + "/wiki-llama-6m-sample.txt";
  Scratch scratch_;
};

/// The same where crash/shim.cpp can be loaded before the command.
class InterventionTest : public CommandTest {
 protected:
  void SetUp() override {
    if (run("--version", with_shim()).code != 0) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
      GTEST_SKIP() << "the sanitizer wants to be the first library";
#else
      FAIL() << "the command does not run with a library before it: " << read_file(scratch_ / "stderr");
#endif
    }
  }
};

}  // namespace knapsaq
