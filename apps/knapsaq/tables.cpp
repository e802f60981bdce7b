#include <chrono>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/units.h"
#include "knapsaq/model/expected_tensors.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  std::string output;
  std::string menu = "mxq";
};

void run(const Options& options) {
  start(options.common);
  const Menu menu = parse_menu(options.menu);
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  const ModelConfig config = parse_model_config(checkpoint.config());
  check_shapes(checkpoint, config);
  const auto begin = std::chrono::steady_clock::now();
  const ErrorTable table = build_error_table(checkpoint, config, menu, progress());
  write_csv(table, options.output);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();

  if (options.common.json) {
    print({{"model", options.model},
           {"output", options.output},
           {"linears", table.rows.size()},
           {"schemes", table.menu.size()},
           {"seconds", seconds}});
    return;
  }
  fmt::print("{}: {} linears by {} schemes, {}\n", options.output, table.rows.size(), table.menu.size(),
             format_seconds(seconds));
}

}  // namespace

void add_tables(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("tables", "Measure the error and size of every linear in every scheme");
  verb->add_option("model", options->model, "Model folder in Hugging Face layout, full precision")
      ->required();
  verb->add_option("-o,--output", options->output, "CSV file to write")->required();
  verb->add_option("--menu", options->menu,
                   "mxq, mxq-f16 or schemes separated by commas; see docs/commands.md")
      ->capture_default_str();
  add_common(*verb, options->common);
  verb->footer("Example:\n  knapsaq tables MODEL -o tables.csv");
  verb->callback([options] { run(*options); });
}

}  // namespace knapsaq::command
