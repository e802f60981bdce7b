#include "known_values.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "knapsaq/eval/tasks/task.h"
#include "knapsaq/export/engine.h"
#include "knapsaq/export/writer.h"
#include "knapsaq/search/strategy.h"

namespace knapsaq::command {
namespace {

using Words = std::vector<std::string>;

struct KnownValues {
  std::string_view option;
  Words values;        ///< to offer; empty: nothing, as for a budget
  char separator = 0;  ///< between several of them; 0: one
};

Words strategy_names() {
  Words names;
  for (const StrategyInfo& info : strategies()) names.emplace_back(info.name);
  return names;
}

Words task_names() {
  Words names{"all"};
  for (const Task* task : all_tasks()) names.emplace_back(task->name);
  return names;
}

/// Of all engines; which of them the wanted one has is not known here.
Words cache_names() {
  std::vector<std::string> engines = engine_names();
  engines.emplace_back();  // Knapsaq itself
  Words names;
  for (const std::string& engine : engines)
    for (const CacheType& type : engine_memory(engine).caches)
      if (std::ranges::find(names, type.name) == names.end()) names.emplace_back(type.name);
  return names;
}

std::vector<KnownValues> known_values() {
  return {{"--strategy", strategy_names()},
          {"--strategies", strategy_names(), ','},
          {"--for", engine_names()},
          {"--cache", cache_names()},
          {"--format", export_formats()},
          {"--tasks", task_names(), ','},
          {"--protocol", {"gptq", "stride", "llama"}},
          {"--cost", {"fnorm", "relative", "hessian"}},
          {"--tie", {"none", "qkv", "gate-up", "vllm", "layer"}, ','},
          {"--menu", {"affine", "mxq", "mxq-f16", "gguf"}},
          {"--method", {"gptq", "awq", "hqq", "rtn", "hqq-diag", "rtn-diag"}},
          {"--methods", {"rtn", "hqq", "nf4", "gptq", "awq", "mxq"}, ','},
          {"--goal", {"budget", "paper"}},
          {"--budget", {}},
          {"--budgets", {}},
          {"--scheme", {}},
          {"--configurations", {}},
          {"--pin", {}},
          {"--keep", {}},
          {"--set", {}},
          {"--prompt", {}},
          {"--system", {}}};
}

}  // namespace

void add_known_values(std::vector<VerbDescription>& verbs) {
  const std::vector<KnownValues> all = known_values();
  for (VerbDescription& verb : verbs) {
    for (OptionDescription& option : verb.options) {
      const auto known = std::ranges::find(all, option.names.back(), &KnownValues::option);
      if (known == all.end() || option.takes != Takes::name) continue;
      option.takes = Takes::words;
      option.values = known->values;
      option.separator = known->separator;
    }
  }
}

}  // namespace knapsaq::command
