#include "knapsaq/base/process_mark.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace knapsaq {
namespace {

TEST(ProcessMark, OwnProcessRuns) {
  const ProcessMark mark = this_process();
  EXPECT_EQ(mark.id, ::getpid());
  EXPECT_FALSE(mark.start.empty());
  EXPECT_TRUE(is_running(mark));
}

TEST(ProcessMark, AnotherProcessOfTheSameNumberDoesNotCount) {
  ProcessMark mark = this_process();
  mark.start += "1";
  EXPECT_FALSE(is_running(mark));
}

TEST(ProcessMark, EndedProcessDoesNotRunEvenIfNobodyWaitedForIt) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  // The child's start, as the child would write it down.
  ProcessMark mark{child, ""};
  EXPECT_TRUE(is_running(mark));
  ::kill(child, SIGKILL);
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  mark.start = this_process().start;  // any: the process is a zombie
  EXPECT_FALSE(is_running(mark));
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  mark.start.clear();
  EXPECT_FALSE(is_running(mark));
}

TEST(ProcessMark, NumbersThatAreNoProcess) {
  EXPECT_FALSE(is_running({}));
  EXPECT_FALSE(is_running({-1, ""}));
}

}  // namespace
}  // namespace knapsaq
