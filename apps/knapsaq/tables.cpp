#include <chrono>
#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/bank/bank.h"
#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/base/units.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  std::string bank;
  std::string output;
  std::string menu = "mxq";
  std::vector<std::string> keep;
};

ErrorTable table_of(const Options& options) {
  if (!options.bank.empty()) return Bank::open(options.bank).table();
  const Menu menu = parse_menu(options.menu);
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  const ModelConfig config = model_config(checkpoint);
  check_shapes(checkpoint, config);
  return build_error_table(checkpoint, select_matrices(config, options.keep).quantized, menu, progress());
}

void run(const Options& options) {
  start(options.common);
  if (options.model.empty() == options.bank.empty()) throw UsageError("give either a model or --bank");
  OutputPlan plan;
  plan.reads("the model", options.model);
  plan.reads("the bank", options.bank);
  const std::filesystem::path output = plan.file(options.output, true, is_error_csv);
  const auto begin = std::chrono::steady_clock::now();
  const ErrorTable table = table_of(options);
  write_csv(table, output);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();

  if (options.common.json) {
    print({{"model", options.bank.empty() ? options.model : options.bank},
           {"output", options.output},
           {"linears", table.rows.size()},
           {"schemes", table.menu.size()},
           {"seconds", seconds}});
    return;
  }
  fmt::print("{}: {} matrices by {} schemes, {}\n", options.output, table.rows.size(), table.menu.size(),
             format_seconds(seconds));
}

}  // namespace

void add_tables(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("tables", "Measure the error and size of every matrix in every scheme");
  verb.option("model", options->model, "Model folder in Hugging Face layout, full precision");
  const Option bank =
      verb.option("--bank", options->bank, "Errors and sizes from a bank made by `knapsaq bank`");
  verb.option("-o,--output", options->output, "CSV file to write; replaced if it exists").required();
  verb.option("--menu", options->menu,
              "mxq, mxq-f16, gguf or schemes separated by commas; see docs/commands.md")
      .excludes(bank)
      .show_default();
  verb.option("--keep", options->keep, kKeepHelp).excludes(bank);
  add_common(verb, options->common);
  verb.example("knapsaq tables MODEL -o tables.csv");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
