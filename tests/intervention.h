#pragma once

// What crash/shim.cpp does to a command, as the variables of the environment that tell it: so a test kills a
// command at the same place every time, whatever the machine's speed.

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace knapsaq {

/// What happens at one of the calls that a command makes of the system.
struct Intervention {
  std::string what;   ///< CRASH_DO
  std::string kinds;  ///< CRASH_KINDS: letters of the calls that count
  std::size_t at;     ///< CRASH_AT, from 1
};

/// Kinds of calls by which results come to the disk: creation, write, sync and rename. A command makes the
/// first of them after it listens for signals.
inline constexpr const char* kWriting = "cwfn";

/// To stand before a command line.
inline std::string with_shim() {
  // AddressSanitizer wants to come first; it may come second.
  return "ASAN_OPTIONS=$ASAN_OPTIONS:verify_asan_link_order=0 LD_PRELOAD=" KNAPSAQ_CRASH_SHIM " ";
}
inline std::string with(const Intervention& one) {
  return with_shim() + "CRASH_DO=" + one.what + " CRASH_KINDS=" + one.kinds +
         " CRASH_AT=" + std::to_string(one.at) + " ";
}
/// A file that gets the letters of all calls.
inline std::string with_trace(const std::filesystem::path& trace) {
  return with_shim() + "CRASH_TRACE=" + trace.string() + " ";
}

inline std::size_t count_calls(std::string_view trace, std::string_view kinds) {
  return static_cast<std::size_t>(
      std::ranges::count_if(trace, [&](char kind) { return kinds.find(kind) != kinds.npos; }));
}

}  // namespace knapsaq
