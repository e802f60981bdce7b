#include "knapsaq/base/child.h"

#include <atomic>
#include <csignal>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/threads.h"

namespace knapsaq {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string complaint(const std::function<std::string()>& work, const ChildLimits& limits = {}) {
  try {
    run_in_child("work", work, limits);
  } catch (const InputError& error) {
    return error.what();
  }
  return "nothing";
}

TEST(Child, AnswersWithAnyBytes) {
  std::string all;
  for (int i = 0; i < 300000; ++i) all.push_back(static_cast<char>(i));
  int mine = 1;
  EXPECT_EQ(run_in_child("work",
                         [&] {
                           mine = 2;  // its own copy
                           return all;
                         }),
            all);
  EXPECT_EQ(mine, 1);
  EXPECT_EQ(run_in_child("work", [] { return std::string(); }), "");
}

TEST(Child, PassesExceptionsOn) {
  EXPECT_EQ(complaint([]() -> std::string { throw std::runtime_error("too bad"); }), "too bad");
  EXPECT_EQ(complaint([]() -> std::string { throw InputError(""); }), "");
}

TEST(Child, EndsWhateverItsWorkDoes) {
  const auto endless = []() -> std::string {
    for (std::atomic<int> i = 0;;) ++i;
  };
  EXPECT_EQ(complaint(endless, {.seconds = 1}), "work: takes more than 1 seconds");
  EXPECT_THAT(complaint([] {
                std::vector<std::string> much;
                for (;;) much.emplace_back(1 << 20, 'x');
                return std::string();
              }),
              StartsWith("work: "));
  EXPECT_THAT(complaint([] {
                std::raise(SIGSEGV);
                return std::string();
              }),
              HasSubstr("crashes"));
  EXPECT_EQ(complaint([] { return std::string(3 << 20, 'x'); }, {.answer = 1 << 20}),
            "work: gives more than 1 MiB");
}

TEST(Child, LeavesThreadsAlone) {
  parallel_for(100, [](std::size_t) {});
  for (int i = 0; i < 20; ++i) EXPECT_EQ(run_in_child("work", [] { return std::string("a"); }), "a");
  std::size_t sum = 0;
  parallel_for(1, [&](std::size_t) { ++sum; });
  EXPECT_EQ(sum, 1U);
}

}  // namespace
}  // namespace knapsaq
