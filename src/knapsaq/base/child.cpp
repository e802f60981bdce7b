#include "knapsaq/base/child.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <exception>
#include <fstream>
#include <new>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "knapsaq/base/confine.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

// The first byte of what a child writes.
constexpr char kAnswer = 'a';
constexpr char kException = 'e';
constexpr char kMemory = 'm';
constexpr char kUnconfined = 'u';  // with the system's reason

/// A child cannot sleep, so only one that shares its core with more than nine others takes longer than ten
/// times its processor time; the end of one that the system never lets run must come all the same.
constexpr int kPatience = 10;

/// Bytes of this process's address space.
rlim_t address_space() {
  std::ifstream file("/proc/self/statm");
  rlim_t pages = 0;
  file >> pages;
  return pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE));
}

void limit(int resource, rlim_t value) {
  rlimit current{};
  if (::getrlimit(static_cast<__rlimit_resource>(resource), &current) != 0) return;
  if (current.rlim_max != RLIM_INFINITY && value > current.rlim_max) return;  // stricter already
  current.rlim_cur = value;
  ::setrlimit(static_cast<__rlimit_resource>(resource), &current);
}

bool write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

[[noreturn]] void be_child(int descriptor, const std::function<std::string()>& work,
                           const ChildLimits& limits, rlim_t space) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Ending early is the parent's business; a crash shall not leave a core file.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
  for (const int signal : {SIGSEGV, SIGABRT, SIGFPE, SIGBUS, SIGILL, SIGTRAP, SIGSYS, SIGXCPU})
    ::signal(signal, SIG_DFL);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_CPU, limits.seconds);
  limit(RLIMIT_AS, space + limits.memory);
  std::string answer;
  try {
    if (confine(descriptor))
      answer = kAnswer + work();
    else
      answer = kUnconfined + std::string(std::strerror(errno));
  } catch (const std::bad_alloc&) {
    answer = kMemory;
  } catch (const std::exception& error) {
    answer = kException + std::string(error.what());
  } catch (...) {
    answer = kException + std::string("unknown exception");
  }
  ::_exit(write_all(kAnswerDescriptor, answer) ? 0 : 1);
}

enum class End : std::uint8_t { complete, too_much, too_late };

/// Appends everything up to the end of the pipe to `bytes`, unless that is more than `largest` or comes later
/// than `deadline`.
End read_all(int descriptor, std::size_t largest, std::chrono::steady_clock::time_point deadline,
             std::string& bytes) {
  char buffer[65536];
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return End::too_late;
    pollfd wait{descriptor, POLLIN, 0};
    const int ready = ::poll(&wait, 1, static_cast<int>(left.count()));
    if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
    const ssize_t got = ::read(descriptor, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return End::complete;
    bytes.append(buffer, static_cast<std::size_t>(got));
    if (bytes.size() > largest) return End::too_much;
  }
}

}  // namespace

ChildAnswer run_in_child(const std::string& what, const std::function<std::string()>& work,
                         const ChildLimits& limits) {
  const auto no_child = [&]() -> IoError {
    return IoError(fmt::format("{}: cannot start a process for it: {}", what, std::strerror(errno)));
  };
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw no_child();
  const rlim_t space = address_space();
  const pid_t child = ::fork();
  if (child < 0) {
    const IoError error = no_child();
    ::close(ends[0]);
    ::close(ends[1]);
    throw error;
  }
  if (child == 0) be_child(ends[1], work, limits, space);
  ::close(ends[1]);
  std::string answer;
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::seconds(std::int64_t{limits.seconds} * kPatience);
  const End end = read_all(ends[0], limits.answer + 1, deadline, answer);
  ::close(ends[0]);
  if (end != End::complete) ::kill(child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (end == End::too_much)
    throw InputError(fmt::format("{}: gives more than {} MiB", what, limits.answer >> 20));
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    if (signal == SIGXCPU || signal == SIGKILL)
      throw InputError(fmt::format("{}: takes more than {} seconds", what, limits.seconds));
  }
  if (answer.empty() || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw InputError(fmt::format("{}: crashes, by too deep nesting or too much memory", what));
  const char kind = answer[0];
  answer.erase(0, 1);
  if (kind == kMemory)
    throw InputError(fmt::format("{}: takes more than {} MiB of memory", what, limits.memory >> 20));
  if (kind == kUnconfined)
    throw IoError(
        fmt::format("{}: is a program from outside and was not run, because this system has no way to "
                    "confine it (seccomp: {}): use a kernel that has it",
                    what, in_quotes(answer)));
  return {.threw = kind != kAnswer, .bytes = std::move(answer)};
}

}  // namespace knapsaq
