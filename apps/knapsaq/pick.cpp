#include "knapsaq/pipeline/pick.h"

#include <memory>

#include <nlohmann/json.hpp>

#include "budget_flags.h"
#include "command.h"
#include "result_json.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  BudgetFlags budget;
  PickOptions pick;
};

void run(const Options& options) {
  PickOptions pick = options.pick;
  pick.budget = budget_of(options.budget);
  Environment environment(environment_options(options.common));
  const WrittenModel model = knapsaq::pick(environment, pick);
  if (options.common.json) {
    nlohmann::ordered_json json = {{"run", pick.run}, {"output", pick.output}};
    json.update(json_of(model));
    print(json);
    return;
  }
  print_summary(model, pick.output);
}

}  // namespace

void add_pick(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb =
      app.add("pick", "Write the best model within a budget that a run has found, also while it runs");
  verb.option("run", options->pick.run, "Folder of the run").required();
  verb.option("-o,--output", options->pick.output,
              "Folder to write; a GGUF file where the run is for llama.cpp")
      .required();
  add_budget_flags(verb, options->budget);
  verb.option("--near", options->pick.near,
              "With --bits: the best within so many bits above or below, as AMQ picks (0.005); not a hard "
              "budget then")
      .positive();
  verb.option("--codes", options->pick.codes,
              "A bank of the same menu by another method: write its codes, not those that were "
              "searched on, as AMQ does");
  verb.option("--model", options->pick.model, "Where the model is now, if it was moved");
  verb.option("--strategy", options->pick.strategy, "Only what searches with this strategy found");
  verb.flag("--force", options->pick.force, "Replace the output folder");
  add_common(verb, options->common);
  verb.example("knapsaq pick RUN --budget 4.2MiB -o OUT");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
