#include "knapsaq/pipeline/judged_log.h"

#include <gtest/gtest.h>

#include "knapsaq/base/files.h"
#include "scratch.h"

namespace knapsaq {
namespace {

Measurement made() {
  Measurement result;
  result.windows = 2;
  result.tokens = 6;
  result.kl = 0.25;
  result.loss = 3.5;
  result.agreement = 0.5;
  result.per_token = {0.1f, 0.2f, 0.3f, 0.2f, 0.3f, 0.4f};
  result.window_loss = {3, 4};
  return result;
}

TEST(JudgedLog, RemembersWhatWasAdded) {
  const Scratch scratch;
  JudgedLog(scratch.path(), "c1").add("f1", made());
  const JudgedLog log(scratch.path(), "c1");
  const auto found = log.find("f1");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->windows, 2);
  EXPECT_EQ(found->tokens, 6);
  EXPECT_EQ(found->kl, 0.25);
  EXPECT_EQ(found->loss, 3.5);
  EXPECT_EQ(found->agreement, 0.5);
  EXPECT_EQ(found->per_token, made().per_token);
  EXPECT_EQ(found->window_loss, made().window_loss);
  EXPECT_FALSE(log.find("f2"));
  EXPECT_FALSE(JudgedLog(scratch.path(), "c2").find("f1"));  // another reference or text
}

TEST(JudgedLog, WhatIsDamagedIsMeasuredAgain) {
  const Scratch scratch;
  const JudgedLog log(scratch.path(), "c1");
  log.add("f1", made());
  const std::filesystem::path path = scratch / "c1-f1.tokens";
  const std::string whole = read_file(path);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string other = whole;
    other[i] = static_cast<char>(other[i] ^ 1);
    write_file(path, other);
    EXPECT_FALSE(log.find("f1")) << i;
    write_file(path, whole.substr(0, i));
    EXPECT_FALSE(log.find("f1")) << i;
  }
  write_file(path, whole + "x");
  EXPECT_FALSE(log.find("f1"));
  write_file(path, whole);
  EXPECT_TRUE(log.find("f1"));
}

TEST(JudgedLog, KnowsItsOwnFiles) {
  EXPECT_TRUE(JudgedLog::is_own("c1-f1.tokens"));
  EXPECT_TRUE(JudgedLog::is_own("c1-f1.tokens.partial-17"));  // of a process that was killed
  EXPECT_FALSE(JudgedLog::is_own("notes.txt"));
}

}  // namespace
}  // namespace knapsaq
