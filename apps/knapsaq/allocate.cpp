#include <map>
#include <memory>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "allocation_json.h"
#include "command.h"
#include "knapsaq/bank/bank.h"
#include "knapsaq/bank/match_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/units.h"
#include "knapsaq/search/mxq.h"
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
    throw UsageError(
        "give either --bits (average per weight of the linears) or --budget (bytes of all matrices)");
  if (options.table.empty() == options.bank.empty()) throw UsageError("give either --table or --bank");
  ErrorTable table = options.table.empty() ? Bank::open(options.bank).table() : read_csv(options.table);
  // The papers' average is one over the linears of the blocks.
  if (options.bits > 0) table = without_ends(std::move(table));
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

void add_allocate(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb =
      app.add("allocate", "Solve MXQ's integer program on a table of errors and sizes, or on a bank");
  verb.option("--table", options->table, "CSV made by `knapsaq tables` or by MXQ's own tools");
  verb.option("--bank", options->bank, "Errors and sizes from a bank made by `knapsaq bank`");
  verb.option("--cost", options->cost, kCostHelp);
  verb.option("--bits", options->bits, "Budget: average bits per weight over the linears of the blocks")
      .positive();
  verb.option("--budget", options->budget,
              "Budget: bytes of all matrices of the table, as 4200000, 4.2MiB, 1.5GB");
  verb.option("--tie", options->ties,
              "Linears that share a scheme: none, qkv, gate-up, vllm (both), layer; several with commas")
      .show_default();
  add_solver_options(verb, options->solver);
  add_common(verb, options->common);
  verb.example(
      "knapsaq allocate --table tables.csv --bits 3.25\n  knapsaq allocate --bank BANK --bits "
      "3.25 --cost hessian");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
