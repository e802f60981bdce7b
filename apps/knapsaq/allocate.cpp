#include "knapsaq/pipeline/allocate.h"

#include <algorithm>
#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/units.h"
#include "result_json.h"
#include "solver_flags.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string budget;
  AllocateOptions allocate;
};

void run(const Options& options) {
  AllocateOptions allocate = options.allocate;
  if (!options.budget.empty()) allocate.bytes = parse_bytes(options.budget);
  Environment environment(environment_options(options.common));
  const AllocateResult result = knapsaq::allocate(environment, allocate);

  if (options.common.json) {
    print({{"cost", result.cost},
           {"objective", result.objective},
           {"bound", result.bound},
           {"gap", result.gap},
           {"bytes", result.bytes},
           {"bits", result.bits},
           {"budget_bytes", result.budget_bytes},
           {"seconds", result.seconds},
           {"allocation", allocation_json(result.allocation)}});
    return;
  }
  std::size_t width = 0;
  for (const NamedScheme& one : result.allocation) width = std::max(width, one.matrix.size());
  for (const NamedScheme& one : result.allocation) fmt::print("{:<{}}  {}\n", one.matrix, width, one.scheme);
  fmt::print("{} {:.7g}   bound {:.7g}   gap {:.1e}   {} ({:.4f} bits per weight)   {}\n", result.cost,
             result.objective, result.bound, result.gap, format_bytes(result.bytes), result.bits,
             format_seconds(result.seconds));
}

}  // namespace

void add_allocate(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb =
      app.add("allocate", "Solve MXQ's integer program on a table of errors and sizes, or on a bank");
  verb.option("--table", options->allocate.table, "CSV made by `knapsaq tables` or by MXQ's own tools");
  verb.option("--bank", options->allocate.bank, "Errors and sizes from a bank made by `knapsaq bank`");
  verb.option("--cost", options->allocate.cost, kCostHelp);
  verb.option("--bits", options->allocate.bits,
              "Budget: average bits per weight over the linears of the blocks")
      .positive();
  verb.option("--budget", options->budget,
              "Budget: bytes of all matrices of the table, as 4200000, 4.2MiB, 1.5GB");
  verb.option("--tie", options->allocate.ties,
              "Linears that share a scheme: none, qkv, gate-up, vllm (both), layer; several with commas")
      .show_default();
  add_solver_flags(verb, options->allocate.solver);
  add_common(verb, options->common);
  verb.example(
      "knapsaq allocate --table tables.csv --bits 3.25\n  knapsaq allocate --bank BANK --bits "
      "3.25 --cost hessian");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
