#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/search/strategy.h"

namespace knapsaq::command {
namespace {

void run(const Common& common) {
  if (common.json) {
    nlohmann::ordered_json all = nlohmann::ordered_json::array();
    for (const StrategyInfo& info : strategies()) {
      nlohmann::ordered_json options = nlohmann::ordered_json::array();
      for (const StrategyOption& option : info.options)
        options.push_back({{"name", option.name}, {"default", option.value}, {"help", option.help}});
      all.push_back({{"name", info.name}, {"summary", info.summary}, {"options", options}});
    }
    print({{"strategies", all}});
    return;
  }
  for (const StrategyInfo& info : strategies()) {
    fmt::print("{}: {}\n", info.name, info.summary);
    for (const StrategyOption& option : info.options)
      fmt::print("  {:<20} {:<8} {}\n", option.name, option.value, option.help);
  }
}

}  // namespace

void add_strategies(CommandLine& app) {
  auto common = std::make_shared<Common>();
  const Verb verb = app.add("strategies", "List the strategies of `search` with their constants");
  add_common(verb, *common);
  verb.example("knapsaq strategies");
  verb.runs([common] { run(*common); });
}

}  // namespace knapsaq::command
