#pragma once

#include <cstdint>
#include <string>

namespace knapsaq {

/// A process as files name it: its number, and what tells it apart from a later process of the same number.
struct ProcessMark {
  std::int64_t id = 0;
  /// "<id of the system's boot> <clock ticks from the boot to the start>"; empty where /proc does not say.
  std::string start;

  friend bool operator==(const ProcessMark&, const ProcessMark&) = default;
};

ProcessMark this_process();

/// Whether that process runs in this system now. False for one that has ended and waits for its parent.
bool is_running(const ProcessMark& process);

}  // namespace knapsaq
