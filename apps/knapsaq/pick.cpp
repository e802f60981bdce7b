#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/files.h"
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
  bool force = false;
};

void run(const Options& options) {
  start(options.common);
  refuse_existing(options.output, options.force);
  Run run = Run::open(options.folder, Access::write_if_free, options.model);
  const std::uint64_t budget = file_budget(options.budget, run.space());
  const Shipment shipment = ship(run, budget, options.output, options.force);
  if (options.common.json) {
    nlohmann::ordered_json json = {{"run", options.folder}, {"output", options.output}};
    json.update(json_of(shipment, run, budget));
    print(json);
    return;
  }
  print_summary(shipment, run, options.output);
}

}  // namespace

void add_pick(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "pick", "Write the best model within a budget that a run has found, also while it runs");
  verb->add_option("run", options->folder, "Folder of the run")->required();
  verb->add_option("-o,--output", options->output, "Folder to write")->required();
  add_budget_options(*verb, options->budget);
  verb->add_option("--model", options->model, "Where the model is now, if it was moved");
  verb->add_flag("--force", options->force, "Replace the output folder");
  add_common(*verb, options->common);
  verb->footer("Example:\n  knapsaq pick RUN --budget 4.2MiB -o OUT");
  verb->callback([options] { run(*options); });
}

}  // namespace knapsaq::command
