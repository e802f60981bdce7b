#include "knapsaq/base/child.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <fstream>
#include <new>
#include <optional>
#include <string_view>

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

// The first byte of what a child writes.
constexpr char kAnswer = 'a';
constexpr char kException = 'e';
constexpr char kMemory = 'm';

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
  // Ctrl-C is the parent's business; a crash shall not leave a core file.
  ::signal(SIGINT, SIG_IGN);
  ::signal(SIGPIPE, SIG_IGN);
  for (const int crash : {SIGSEGV, SIGABRT, SIGFPE, SIGBUS, SIGILL}) ::signal(crash, SIG_DFL);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_CPU, limits.seconds);
  limit(RLIMIT_AS, space + limits.memory);
  std::string answer;
  try {
    answer = kAnswer + work();
  } catch (const std::bad_alloc&) {
    answer = kMemory;
  } catch (const std::exception& error) {
    answer = kException + std::string(error.what());
  } catch (...) {
    answer = kException + std::string("unknown exception");
  }
  ::_exit(write_all(descriptor, answer) ? 0 : 1);
}

/// Everything up to the end, or nothing if that is more than `largest` bytes.
std::optional<std::string> read_all(int descriptor, std::size_t largest) {
  std::string bytes;
  char buffer[65536];
  for (;;) {
    const ssize_t got = ::read(descriptor, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return bytes;
    bytes.append(buffer, static_cast<std::size_t>(got));
    if (bytes.size() > largest) return std::nullopt;
  }
}

}  // namespace

std::string run_in_child(const std::string& what, const std::function<std::string()>& work,
                         const ChildLimits& limits) {
  const auto no_child = [&]() -> IoError {
    return IoError(fmt::format("{}: cannot start a process for it: {}", what, std::strerror(errno)));
  };
  int ends[2];
  if (::pipe(ends) != 0) throw no_child();
  const rlim_t space = address_space();
  const pid_t child = ::fork();
  if (child < 0) {
    const IoError error = no_child();
    ::close(ends[0]);
    ::close(ends[1]);
    throw error;
  }
  if (child == 0) {
    ::close(ends[0]);
    be_child(ends[1], work, limits, space);
  }
  ::close(ends[1]);
  const std::optional<std::string> answer = read_all(ends[0], limits.answer + 1);
  ::close(ends[0]);
  if (!answer) ::kill(child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!answer) throw InputError(fmt::format("{}: gives more than {} MiB", what, limits.answer >> 20));
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    if (signal == SIGXCPU || signal == SIGKILL)
      throw InputError(fmt::format("{}: takes more than {} seconds", what, limits.seconds));
    throw InputError(fmt::format("{}: crashes, by too deep nesting or too much memory", what));
  }
  if (answer->empty() || (*answer)[0] == kMemory)
    throw InputError(fmt::format("{}: takes more than {} MiB of memory", what, limits.memory >> 20));
  if ((*answer)[0] == kException) throw InputError(answer->substr(1));
  return answer->substr(1);
}

}  // namespace knapsaq
