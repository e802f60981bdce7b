#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "completion_scripts.h"
#include "known_values.h"

namespace knapsaq::command {
namespace {

const char* name_of(Takes takes) {
  switch (takes) {
    case Takes::nothing:
      return "nothing";
    case Takes::number:
      return "number";
    case Takes::name:
      return "name";
    case Takes::words:
      break;
  }
  return "words";
}

nlohmann::ordered_json json_of(const std::vector<OptionDescription>& options) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const OptionDescription& option : options)
    all.push_back({{"names", option.names},
                   {"help", option.help},
                   {"takes", name_of(option.takes)},
                   {"values", option.values},
                   {"separator", option.separator == 0 ? "" : std::string(1, option.separator)},
                   {"required", option.required},
                   {"repeats", option.repeats}});
  return all;
}

void run(const CommandLine& app, const std::string& format) {
  std::vector<VerbDescription> all = app.verbs();
  add_known_values(all);
  if (format == "bash") fmt::print("{}", bash_completion(all, app.options()));
  if (format == "zsh") fmt::print("{}", zsh_completion(all, app.options()));
  if (format != "json") return;
  nlohmann::ordered_json verbs = nlohmann::ordered_json::array();
  for (const VerbDescription& verb : all)
    verbs.push_back({{"name", verb.name}, {"help", verb.help}, {"options", json_of(verb.options)}});
  print({{"options", json_of(app.options())}, {"verbs", verbs}});
}

}  // namespace

void add_completion(CommandLine& app) {
  auto format = std::make_shared<std::string>();
  const Verb verb = app.add("completion", "Print completion for a shell, or all verbs and options as JSON");
  verb.option("shell", *format, "bash, zsh, or json: what both are made from")
      .required()
      .one_of({"bash", "zsh", "json"});
  verb.example("eval \"$(knapsaq completion bash)\"");
  verb.runs([&app, format] { run(app, *format); });
}

}  // namespace knapsaq::command
