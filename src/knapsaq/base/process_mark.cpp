#include "knapsaq/base/process_mark.h"

#include <cerrno>
#include <fstream>
#include <sstream>

#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>

namespace knapsaq {
namespace {

struct Stat {
  char state = 0;
  std::string start;
};

/// Of /proc/<id>/stat; empty where there is none.
Stat read_stat(std::int64_t id) {
  std::string text;
  if (!std::getline(std::ifstream(fmt::format("/proc/{}/stat", id)), text, '\0')) return {};
  // The second field is the program's name in parentheses and may hold anything.
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream fields(text.substr(name_end + 1));
  Stat result;
  fields >> result.state;
  constexpr int kStartField = 22;
  std::string ticks;
  for (int field = 4; field <= kStartField && fields >> ticks; ++field) continue;
  std::string boot;
  if (!fields || !(std::ifstream("/proc/sys/kernel/random/boot_id") >> boot)) return {};
  result.start = boot + " " + ticks;
  return result;
}

}  // namespace

ProcessMark this_process() { return {::getpid(), read_stat(::getpid()).start}; }

bool is_running(const ProcessMark& process) {
  if (process.id <= 0) return false;
  if (!process.start.empty()) {
    const Stat stat = read_stat(process.id);
    return stat.start == process.start && stat.state != 'Z' && stat.state != 'X';
  }
  return ::kill(static_cast<pid_t>(process.id), 0) == 0 || errno == EPERM;
}

}  // namespace knapsaq
