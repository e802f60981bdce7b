#include "knapsaq/pipeline/tables.h"

#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/units.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  TablesOptions tables;
};

void run(const Options& options) {
  const TablesOptions& tables = options.tables;
  Environment environment(environment_options(options.common));
  const TablesResult result = knapsaq::tables(environment, tables);
  if (options.common.json) {
    print({{"model", tables.bank.empty() ? tables.model : tables.bank},
           {"output", tables.output},
           {"linears", result.linears},
           {"schemes", result.schemes},
           {"seconds", result.seconds}});
    return;
  }
  fmt::print("{}: {} matrices by {} schemes, {}\n", tables.output, result.linears, result.schemes,
             format_seconds(result.seconds));
}

}  // namespace

void add_tables(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("tables", "Measure the error and size of every matrix in every scheme");
  verb.option("model", options->tables.model, "Model folder in Hugging Face layout, full precision");
  const Option bank =
      verb.option("--bank", options->tables.bank, "Errors and sizes from a bank made by `knapsaq bank`");
  verb.option("-o,--output", options->tables.output, "CSV file to write; replaced if it exists").required();
  verb.option("--menu", options->tables.menu,
              "mxq, mxq-f16, gguf or schemes separated by commas; see docs/commands.md")
      .excludes(bank)
      .show_default();
  verb.option("--keep", options->tables.keep, kKeepHelp).excludes(bank);
  add_common(verb, options->common);
  verb.example("knapsaq tables MODEL -o tables.csv");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
