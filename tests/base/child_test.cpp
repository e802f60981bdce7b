#include "knapsaq/base/child.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "knapsaq/base/confine.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/threads.h"
#include "message_of.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string complaint(const std::function<std::string()>& work, const ChildLimits& limits = {}) {
  return message_of([&] { run_in_child("work", work, limits); });
}

TEST(Child, AnswersWithAnyBytes) {
  std::string all;
  for (int i = 0; i < 300000; ++i) all.push_back(static_cast<char>(i));
  int mine = 1;
  const ChildAnswer answer = run_in_child("work", [&] {
    mine = 2;  // its own copy
    return all;
  });
  EXPECT_FALSE(answer.threw);
  EXPECT_EQ(answer.bytes, all);
  EXPECT_EQ(mine, 1);
  EXPECT_EQ(run_in_child("work", [] { return std::string(); }).bytes, "");
}

TEST(Child, PassesExceptionsOn) {
  for (const std::string said : {"too bad", "", "work: takes more than\ntwo lines"}) {
    const ChildAnswer answer = run_in_child("work", [&]() -> std::string { throw std::runtime_error(said); });
    EXPECT_TRUE(answer.threw);
    EXPECT_EQ(answer.bytes, said);
  }
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
                __builtin_trap();
                return std::string();
              }),
              HasSubstr("crashes"));
  EXPECT_THAT(complaint([]() -> std::string { std::abort(); }), HasSubstr("crashes"));
  EXPECT_THAT(complaint([]() -> std::string { ::_exit(0); }), HasSubstr("crashes"));
  EXPECT_THAT(complaint([]() -> std::string {
                const std::string half = "ahalf an answer";
                ::write(kAnswerDescriptor, half.data(), half.size());
                ::_exit(3);
              }),
              HasSubstr("crashes"));
  EXPECT_EQ(complaint([] { return std::string(3 << 20, 'x'); }, {.answer = 1 << 20}),
            "work: gives more than 1 MiB");
}

TEST(Child, LeavesThreadsAlone) {
  parallel_for(100, [](std::size_t) {});
  for (int i = 0; i < 20; ++i) EXPECT_EQ(run_in_child("work", [] { return std::string("a"); }).bytes, "a");
  std::size_t sum = 0;
  parallel_for(1, [&](std::size_t) { ++sum; });
  EXPECT_EQ(sum, 1U);
}

/// A system call that must not work in a child, and does outside: 0 or more.
struct Attempt {
  const char* name;
  std::function<long()> make;
  bool here = true;  ///< whether it can be tried outside
};

/// "0", or the number of the error that the call gives.
std::string outcome(const Attempt& attempt) {
  errno = 0;
  return attempt.make() >= 0 ? "0" : std::to_string(errno);
}

TEST(Child, HasNothingButItsMemory) {
  const Scratch scratch;
  const std::string file = (scratch / "file").string();
  std::ofstream(file) << "secret";
  // What the parent has open, however it was opened.
  const int low = ::open(file.c_str(), O_RDWR);
  const int inherited = ::fcntl(low, F_DUPFD, 50);
  ASSERT_GE(inherited, 50);
  static char buffer[16];
  const std::string moved = file + ".moved";
  const std::string made = file + ".made";
  const auto call = [](auto... arguments) { return ::syscall(arguments...); };
  const std::vector<Attempt> attempts = {
      {"openat to read", [&] { return call(SYS_openat, AT_FDCWD, file.c_str(), O_RDONLY); }},
      {"openat to write", [&] { return call(SYS_openat, AT_FDCWD, made.c_str(), O_WRONLY | O_CREAT, 0600); }},
      {"stat", [&] { return call(SYS_faccessat, AT_FDCWD, file.c_str(), R_OK); }},
      {"read what was open", [&] { return call(SYS_read, inherited, buffer, 1); }},
      {"write what was open", [&] { return call(SYS_pwrite64, inherited, buffer, 0, 0); }},
      {"map what was open", [&] { return call(SYS_mmap, 0, 4096, PROT_READ, MAP_SHARED, inherited, 0); }},
      {"mkdir", [&] { return call(SYS_mkdirat, AT_FDCWD, (file + ".folder").c_str(), 0700); }},
      {"rename", [&] { return call(SYS_renameat2, AT_FDCWD, file.c_str(), AT_FDCWD, moved.c_str(), 0); }},
      {"rename back",
       [&] { return call(SYS_renameat2, AT_FDCWD, moved.c_str(), AT_FDCWD, file.c_str(), 0); }},
      {"unlink", [&] { return call(SYS_unlinkat, AT_FDCWD, made.c_str(), 0); }},
      {"chdir", [&] { return call(SYS_chdir, "."); }},
      {"memfd", [&] { return call(SYS_memfd_create, "m", 0); }},
      {"duplicate", [&] { return call(SYS_dup, kAnswerDescriptor); }, false},
      {"internet socket", [&] { return call(SYS_socket, AF_INET, SOCK_DGRAM, 0); }},
      {"local socket", [&] { return call(SYS_socket, AF_UNIX, SOCK_STREAM, 0); }},
      {"socket pair",
       [&] {
         static int pair[2];
         return call(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, pair);
       }},
      {"new process", [&] { return call(SYS_clone, SIGCHLD, 0, 0, 0, 0); }, false},
      {"new process, newer call", [&] { return call(SYS_clone3, buffer, 0); }, false},
      {"new program",
       [&] {
         static const char* const arguments[] = {"/bin/true", nullptr};
         return call(SYS_execve, "/bin/true", arguments, arguments + 1);
       },
       false},
      {"signal to the parent", [&] { return call(SYS_kill, ::getppid(), 0); }},
      {"trace", [&] { return call(SYS_ptrace, 16, ::getppid(), 0, 0); }, false},
      {"own limits", [&] { return call(SYS_prlimit64, 0, 0, 0, 0); }},
      {"own signals", [&] { return call(SYS_rt_sigaction, SIGXCPU, 0, 0, 8); }},
      {"own rights", [&] { return call(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0); }},
      {"sleep",
       [&] {
         const timespec moment{0, 1};
         return call(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &moment, 0);
       }},
      {"wait for a lock",
       [&] {
         static int lock = 0;
         const timespec moment{0, 1};
         const long result = call(SYS_futex, &lock, 0 /* FUTEX_WAIT */, 0, &moment, 0, 0);
         return result < 0 && errno == ETIMEDOUT ? 0 : result;
       }},
      {"code",
       [&] { return call(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }},
      {"code out of data",
       [&] {
         static void* const page = ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         return call(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC);
       }},
  };
  for (const Attempt& attempt : attempts) {
    const std::string inside = run_in_child("work", [&] { return outcome(attempt); }).bytes;
    // Mapping is allowed, of what is open: and nothing is.
    if (std::string(attempt.name) == "map what was open")
      EXPECT_EQ(inside, std::to_string(EBADF));
    else
      EXPECT_EQ(inside, std::to_string(EPERM)) << attempt.name;
  }
  for (const Attempt& attempt : attempts) {
    if (attempt.here) {
      EXPECT_EQ(outcome(attempt), "0") << attempt.name;
    }
  }
  ::close(inherited);
  ::close(low);
}

TEST(Child, CannotWriteButItsAnswer) {
  const auto inside = [](int descriptor) {
    return run_in_child(
               "work",
               [=] {
                 return std::to_string(::syscall(SYS_write, descriptor, "x", std::size_t{0}) < 0 ? errno : 0);
               })
        .bytes;
  };
  // Under sanitizers the descriptor is closed, elsewhere the call is refused, too.
  for (const int descriptor : {0, 1, 4, 5, 100})
    EXPECT_THAT(inside(descriptor), testing::AnyOf(std::to_string(EPERM), std::to_string(EBADF)))
        << descriptor;
  EXPECT_EQ(inside(kAnswerDescriptor), "0");
}

/// From now on this process is as on a kernel without seccomp.
bool take_seccomp_away() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_SECCOMP, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog whole{std::size(program), program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &whole) == 0;
}

TEST(Child, RunsNothingThatItCannotConfine) {
  const Scratch scratch;
  const std::string mark = (scratch / "was-run").string();
  const pid_t without = ::fork();
  ASSERT_GE(without, 0);
  if (without == 0) {
    if (!take_seccomp_away()) ::_exit(2);
    try {
      run_in_child("work", [&] {
        std::ofstream(mark) << "it was";
        return std::string();
      });
    } catch (const IoError& error) {
      ::_exit(std::string(error.what()).find("work: is a program from outside and was not run") == 0 ? 0 : 3);
    } catch (const std::exception&) {
      ::_exit(4);
    }
    ::_exit(5);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(without, &status, 0), without);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_FALSE(std::ifstream(mark).good());
}

TEST(Child, KnowsTheLocalTime) {
  const std::time_t moment = 1'700'000'000;
  const auto here = [&] { return std::string(std::ctime(&moment)); };
  EXPECT_EQ(run_in_child("work", here).bytes, here());
  // A rule needs no file.
  ::setenv("TZ", "ABC-5:30", 1);
  EXPECT_THAT(run_in_child("work", here).bytes, HasSubstr("03:43:20"));
  ::unsetenv("TZ");
  ::tzset();
}

TEST(Child, ComputesAsElsewhere) {
  // What libraries do without being asked must not be refused: large blocks, exceptions, first uses of
  // statics.
  const auto work = [] {
    static const std::string first = "first";
    std::vector<double> large(20'000'000, 1.0);
    large.resize(30'000'000, 2.0);
    double sum = 0;
    for (const double value : large) sum += value;
    try {
      throw std::out_of_range("caught");
    } catch (const std::exception& error) {
      return first + std::to_string(sum) + error.what();
    }
  };
  EXPECT_EQ(run_in_child("work", work).bytes, work());
}

}  // namespace
}  // namespace knapsaq
