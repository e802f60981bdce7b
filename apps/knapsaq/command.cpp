#include "command.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/model/stored_tensors.h"

namespace knapsaq::command {

void add_common(Verb verb, Common& common) {
  verb.flag("--json", common.json, "Print one JSON object (docs/commands.md lists its fields)");
  verb.option("--threads", common.threads, "Threads to work with; 0: one per core")
      .range(0, 1024)
      .show_default();
}

void start(const Common& common) { set_default_threads(common.threads); }

ModelConfig model_config(const Checkpoint& checkpoint) {
  ModelConfig config = parse_model_config(checkpoint.config());
  for (const std::string& note : notes_about(checkpoint, config)) fmt::print(stderr, "note: {}\n", note);
  return config;
}

void print(const nlohmann::ordered_json& value) {
  // Text from files may hold bytes that are no UTF-8; they are shown as U+FFFD rather than refused.
  const std::string text = value.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  std::printf("%s\n", text.c_str());
  flush_output();
}

void flush_output() {
  if (std::ferror(stdout) == 0 && std::fflush(stdout) == 0) return;
  if (errno == EPIPE) throw OutputClosed();
  throw IoError(fmt::format("cannot write to standard output: {}", std::strerror(errno)));
}

}  // namespace knapsaq::command
