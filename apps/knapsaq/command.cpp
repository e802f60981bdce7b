#include "command.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/model/stored_tensors.h"
#include "number_check.h"

namespace knapsaq::command {

void add_common(CLI::App& verb, Common& common) {
  verb.add_flag("--json", common.json, "Print one JSON object (docs/commands.md lists its fields)");
  verb.add_option("--threads", common.threads, "Threads to work with; 0: one per core")
      ->check(whole_number_check(0, 1024))
      ->capture_default_str();
}

CLI::Validator not_empty() {
  return CLI::Validator([](const std::string& name) { return name.empty() ? "the name is empty" : ""; }, "");
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
