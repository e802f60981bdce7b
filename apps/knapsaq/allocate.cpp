#include <map>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "allocation_json.h"
#include "command.h"
#include "knapsaq/bank/bank.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/units.h"
#include "knapsaq/search/mxq.h"
#include "number_check.h"
#include "solver_options.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string table;
  std::string bank;
  std::string cost;
  double bits = 0;
  std::string budget;
  std::string ties = "none";
  SolverOptions solver;
};

void run(const Options& options) {
  start(options.common);
  if ((options.bits > 0) == !options.budget.empty())
    throw UsageError("give either --bits (average per weight) or --budget (bytes of the linears)");
  if (options.table.empty() == options.bank.empty()) throw UsageError("give either --table or --bank");
  const ErrorTable table = options.table.empty() ? Bank::open(options.bank).table() : read_csv(options.table);
  const Cost cost = options.cost.empty() ? usual_cost(table) : parse_cost(options.cost);
  const std::uint64_t budget =
      options.budget.empty() ? budget_bytes(table, options.bits) : parse_bytes(options.budget);
  const Allocation allocation =
      allocate_mxq(table, budget, options.ties, solve_options(options.solver), cost);

  if (options.common.json) {
    print({{"cost", to_string(cost)},
           {"objective", allocation.objective},
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
  fmt::print("{} {:.7g}   bound {:.7g}   gap {:.1e}   {} ({:.4f} bits per weight)   {}\n", to_string(cost),
             allocation.objective, allocation.bound, allocation.gap, format_bytes(allocation.bytes),
             allocation.bits, format_seconds(allocation.seconds));
}

}  // namespace

void add_allocate(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "allocate", "Solve MXQ's integer program on a table of errors and sizes, or on a bank");
  verb->add_option("--table", options->table, "CSV made by `knapsaq tables` or by MXQ's own tools");
  verb->add_option("--bank", options->bank, "Errors and sizes from a bank made by `knapsaq bank`");
  verb->add_option("--cost", options->cost, kCostHelp);
  verb->add_option("--bits", options->bits, "Budget: average bits per weight over all linears")
      ->check(positive_number_check());
  verb->add_option("--budget", options->budget, "Budget: bytes of all linears, as 4200000, 4.2MiB, 1.5GB");
  verb->add_option("--tie", options->ties,
                   "Linears that share a scheme: none, qkv, gate-up, vllm (both), layer; several with commas")
      ->capture_default_str();
  add_solver_options(*verb, options->solver);
  add_common(*verb, options->common);
  verb->footer(
      "Example:\n  knapsaq allocate --table tables.csv --bits 3.25\n  knapsaq allocate --bank BANK --bits "
      "3.25 --cost hessian");
  verb->callback([options] { run(*options); });
}

}  // namespace knapsaq::command
