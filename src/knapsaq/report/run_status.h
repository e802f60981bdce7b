#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/base/process_mark.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// What a process that works on a run says about itself in the run's folder (kStatusName). Times are seconds
/// since 1970, durations are seconds, sizes are bytes. Numbers that are unknown are NaN.
struct RunStatus {
  enum class State : std::uint8_t {
    running,
    stopped,  ///< interrupted; the run can be resumed
    finished,
    failed
  };

  /// Work of known length: reading the model, calibrating, quantizing.
  struct Stage {
    std::string name;
    std::string unit;  ///< plural: "linears"
    std::uint64_t done = 0;
    std::uint64_t total = 0;
    double seconds = 0;  ///< since it began
    double rate = 0;     ///< units per second
    double left = 0;     ///< seconds
  };

  struct Search {
    std::string strategy;
    std::string phase;
    std::int64_t evaluations = 0;
    std::int64_t measured = 0;  ///< of these, by this process
    std::int64_t expected = 0;  ///< evaluations in all; 0: unknown
    double full_passes = 0;
    double seconds = 0;
    double rate = 0;        ///< evaluations per second, lately
    double left = 0;        ///< seconds
    bool can_stop = false;  ///< the process looks for a StopFile
  };

  struct Line {
    double time = 0;
    std::string text;
  };

  ProcessMark process;
  State state = State::running;
  double started = 0;
  double updated = 0;
  std::optional<Stage> stage;  ///< the innermost one
  std::optional<Search> search;
  std::optional<Budget> budget;
  std::uint64_t resident = 0;  ///< memory of the process
  std::uint64_t peak = 0;
  std::vector<Line> log;  ///< stages and choices, oldest first
};

std::string_view name_of(RunStatus::State state);

/// JSON. Text that is not UTF-8 gets replacement characters.
std::string to_text(const RunStatus& status);

/// Reads what to_text() wrote. Throws InputError, naming the place, for anything else: the file may come from
/// anybody.
RunStatus parse_run_status(std::string_view text);

}  // namespace knapsaq
