#include "command.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "terminal_listener.h"

namespace knapsaq::command {

void add_common(Verb verb, Common& common) {
  verb.flag("--json", common.json, "Print one JSON object (docs/commands.md lists its fields)");
  verb.option("--threads", common.threads, "Threads to work with; 0: one per core")
      .range(0, 1024)
      .show_default();
}

void add_watch_flag(Verb verb, Common& common) {
  verb.flag("--watch", common.watch,
            "Serve a page on this machine that shows how the run goes, and print its address");
}

Cancellation& cancellation() {
  static Cancellation by_signals;
  return by_signals;
}

EnvironmentOptions environment_options(const Common& common) {
  static TerminalListener listener;
  listener.serve_pages(common.watch);
  return {common.threads, &listener, &cancellation()};
}

void print(const nlohmann::ordered_json& value) {
  // Text from files may hold bytes that are no UTF-8; they are shown as U+FFFD rather than refused.
  const std::string text = value.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  std::printf("%s\n", text.c_str());
  flush_output();
}

void put(const std::string& text) {
  if (text.empty()) return;
  std::fwrite(text.data(), 1, text.size(), stdout);
  flush_output();
}

void flush_output() {
  if (std::ferror(stdout) == 0 && std::fflush(stdout) == 0) return;
  if (errno == EPIPE) throw OutputClosed();
  throw IoError(fmt::format("cannot write to standard output: {}", std::strerror(errno)));
}

}  // namespace knapsaq::command
