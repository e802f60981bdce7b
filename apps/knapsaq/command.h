#pragma once

// The command line: one file per verb. A verb parses, calls the library, and prints; it decides nothing.

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "arguments.h"
#include "knapsaq/base/cancellation.h"
#include "knapsaq/pipeline/environment.h"

namespace knapsaq::command {

/// What the process ends with. Documented in docs/commands.md: scripts rely on it.
enum ExitCode : int {
  done = 0,
  failed = 1,
  wrong_use = 2,
  interrupted = 130,
  unread = 141,  ///< as a shell says it of programs that SIGPIPE ends
};

/// What every verb has.
struct Common {
  bool json = false;   ///< one JSON object on standard output instead of text
  int threads = 0;     ///< 0: one per core
  bool watch = false;  ///< a page shows the run
};

/// Adds --json and --threads to a verb.
void add_common(Verb verb, Common& common);
/// Adds --watch, for verbs that work on a run.
void add_watch_flag(Verb verb, Common& common);

/// What Ctrl-C asks to stop.
Cancellation& cancellation();
/// The terminal that listens, and what stops the work, for an Environment.
EnvironmentOptions environment_options(const Common& common);

inline constexpr const char* kKeepHelp =
    "'PATTERN': leave matrices that match as they are stored, as 'lm_head' or '*.0.*'";
/// What --cost means, for the verbs that have it.
inline constexpr const char* kCostHelp =
    "What is made small: fnorm, relative, hessian (needs a bank with calibration) or fisher (with "
    "gradients); "
    "default: the last of these that is known";

/// Prints one JSON object and a newline, and sees to it that it was written.
void print(const nlohmann::ordered_json& value);

/// Text to standard output, at once.
void put(const std::string& text);

/// Whoever read standard output has gone: there is nobody to tell.
class OutputClosed : public std::exception {};
/// Writes what was printed so far. Throws OutputClosed, or IoError if the disk is full or failing: what
/// nobody can read was not done.
void flush_output();

/// Each registers one verb; its options live as long as the verb's does.
void add_info(CommandLine& app);
void add_generate(CommandLine& app);
void add_chat(CommandLine& app);
void add_eval(CommandLine& app);
void add_tables(CommandLine& app);
void add_allocate(CommandLine& app);
void add_quantize(CommandLine& app);
void add_bank(CommandLine& app);
void add_tune(CommandLine& app);
void add_bench(CommandLine& app);
void add_export(CommandLine& app);
void add_compare(CommandLine& app);
void add_calibrate(CommandLine& app);
void add_fit(CommandLine& app);
void add_search(CommandLine& app);
void add_front(CommandLine& app);
void add_pick(CommandLine& app);
void add_study(CommandLine& app);
void add_report(CommandLine& app);
void add_strategies(CommandLine& app);
void add_watch(CommandLine& app);
/// Its output is of all verbs that are there when it runs.
void add_completion(CommandLine& app);

}  // namespace knapsaq::command
