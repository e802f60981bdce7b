#include <memory>

#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/model/stored_tensors.h"
#include "run_options.h"
#include "shipping.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string folder;
  std::string model;
  std::string output;
  BudgetOptions budget;
  double near = 0;
  std::string codes;
  std::string strategy;
  bool force = false;
};

void run(const Options& options) {
  start(options.common);
  OutputPlan plan;
  plan.reads("the run", options.folder);
  plan.reads("the bank", options.codes);
  plan.reads("the model", options.model);
  const std::filesystem::path output =
      plan_result(plan, read_run_settings(options.folder).engine, options.output, options.force);
  if (options.near > 0 && (options.budget.bits <= 0 || !options.budget.bytes.empty()))
    throw UsageError("--near goes with --bits alone");
  Run run = Run::open(options.folder, Access::write_if_free, options.model);
  plan.reads("the model", run.model_folder());
  plan.reads("the bank", run.bank().folder());
  check_codes(run, options.codes);
  Verdict verdict = options.near > 0
                        ? choose_near(run, options.budget.bits, options.near, options.strategy, progress())
                        : choose(run, parse_budget(options.budget, run.space(), parameters(run.config())),
                                 options.strategy, progress());
  const Shipment shipment = ship(run, std::move(verdict), options.codes, output, options.force);
  if (options.common.json) {
    nlohmann::ordered_json json = {{"run", options.folder}, {"output", options.output}};
    json.update(json_of(shipment, run));
    print(json);
    return;
  }
  print_summary(shipment, run, options.output);
}

}  // namespace

void add_pick(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb =
      app.add("pick", "Write the best model within a budget that a run has found, also while it runs");
  verb.option("run", options->folder, "Folder of the run").required();
  verb.option("-o,--output", options->output, "Folder to write; a GGUF file where the run is for llama.cpp")
      .required();
  add_budget_options(verb, options->budget);
  verb.option("--near", options->near,
              "With --bits: the best within so many bits above or below, as AMQ picks (0.005); not a hard "
              "budget then")
      .positive();
  verb.option("--codes", options->codes,
              "A bank of the same menu by another method: write its codes in the place of those that were "
              "searched on, as AMQ does");
  verb.option("--model", options->model, "Where the model is now, if it was moved");
  verb.option("--strategy", options->strategy, "Only what searches with this strategy found");
  verb.flag("--force", options->force, "Replace the output folder");
  add_common(verb, options->common);
  verb.example("knapsaq pick RUN --budget 4.2MiB -o OUT");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
