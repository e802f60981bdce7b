#include "knapsaq/base/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include <sys/resource.h>
#include <unistd.h>

namespace knapsaq {
namespace {

/// The number that a file of one number holds.
std::optional<std::uint64_t> number_in(const char* path) {
  std::ifstream file(path);
  std::uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;  // absent, or "max"
}

/// MemAvailable of /proc/meminfo, which counts in KiB.
std::optional<std::uint64_t> available_in_system() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::uint64_t value = 0;
  while (file >> key >> value) {
    if (key == "MemAvailable:") return value * 1024;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> available_memory() {
  std::optional<std::uint64_t> available = available_in_system();
  const auto limit = number_in("/sys/fs/cgroup/memory.max");
  const auto used = number_in("/sys/fs/cgroup/memory.current");
  if (limit && used) {
    const std::uint64_t left = *limit - std::min(*limit, *used);
    available = available ? std::min(*available, left) : left;
  }
  return available;
}

std::uint64_t resident_memory() {
  std::ifstream file("/proc/self/statm");  // in pages: all of the address space, then what is resident
  std::uint64_t all = 0;
  std::uint64_t resident = 0;
  if (!(file >> all >> resident)) return 0;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::uint64_t peak_resident_memory() {
  rusage usage{};
  const std::uint64_t now = resident_memory();
  if (::getrusage(RUSAGE_SELF, &usage) != 0) return now;
  // Linux counts in KiB, and brings this number up to date less often than the other.
  return std::max(now, static_cast<std::uint64_t>(usage.ru_maxrss) * 1024);
}

}  // namespace knapsaq
