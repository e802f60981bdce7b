#include <map>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "allocation_json.h"
#include "command.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/units.h"
#include "knapsaq/search/mxq.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string table;
  double bits = 0;
  std::string budget;
  std::string ties = "none";
  SolveOptions solve;
};

void run(const Options& options) {
  start(options.common);
  if ((options.bits > 0) == !options.budget.empty())
    throw UsageError("give either --bits (average per weight) or --budget (bytes of the linears)");
  const ErrorTable table = read_csv(options.table);
  const double budget = options.budget.empty() ? budget_bytes(table, options.bits)
                                               : static_cast<double>(parse_bytes(options.budget));
  const Allocation allocation = allocate_mxq(table, budget, options.ties, options.solve);

  if (options.common.json) {
    print({{"objective", allocation.objective},
           {"bound", allocation.bound},
           {"gap", allocation.gap},
           {"bytes", allocation.bytes},
           {"bits", allocation.bits},
           {"budget_bytes", budget},
           {"seconds", allocation.seconds},
           {"allocation", allocation_json(table, allocation)}});
    return;
  }
  std::size_t width = 0;
  for (const ErrorRow& row : table.rows) width = std::max(width, row.name.size());
  for (std::size_t i = 0; i < table.rows.size(); ++i)
    fmt::print("{:<{}}  {}\n", table.rows[i].name, width, to_string(allocation.schemes[i]));
  fmt::print("objective {:.7f}   bound {:.7f}   gap {:.1e}   {} ({:.4f} bits per weight)   {}\n",
             allocation.objective, allocation.bound, allocation.gap, format_bytes(allocation.bytes),
             allocation.bits, format_seconds(allocation.seconds));
}

}  // namespace

void add_allocate(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("allocate", "Solve MXQ's integer program on a table of errors and sizes");
  verb->add_option("--table", options->table, "CSV made by `knapsaq tables` or by MXQ's own tools")
      ->required();
  verb->add_option("--bits", options->bits, "Budget: average bits per weight over all linears")
      ->check(CLI::PositiveNumber);
  verb->add_option("--budget", options->budget, "Budget: bytes of all linears, as 4200000, 4.2MiB, 1.5GB");
  verb->add_option("--tie", options->ties,
                   "Linears that share a scheme: none, qkv, gate-up, layer; several with commas")
      ->capture_default_str();
  verb->add_option("--gap", options->solve.gap, "Stop at this relative distance from the proven bound")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb->add_option("--time-limit", options->solve.time_limit,
                   "Seconds; then the best found is taken, with its gap")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  add_common(*verb, options->common);
  verb->footer("Example:\n  knapsaq allocate --table tables.csv --bits 3.25");
  verb->callback([options] { run(*options); });
}

}  // namespace knapsaq::command
