#pragma once

#include <string_view>

namespace knapsaq {

/// Every measurement of the run (Archive).
inline constexpr std::string_view kArchiveName = "archive.db";
/// What a process that works on a run tells those who follow it: its stage, speed, memory (StatusFile).
inline constexpr std::string_view kStatusName = "status.json";
/// Address of the page that follows the run (watch/server_record.h).
inline constexpr std::string_view kServerName = "watch.json";
/// Exists when somebody asked the run's search to stop (StopFile).
inline constexpr std::string_view kStopName = "stop";

/// Whether a file in a run's folder serves a page that follows the run, also one that is being written. A
/// folder that holds nothing else holds no run yet.
inline bool is_watch_file(std::string_view name) {
  return name == kStopName || name.starts_with(kStatusName) || name.starts_with(kServerName);
}

}  // namespace knapsaq
