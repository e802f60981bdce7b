#include "knapsaq/pipeline/quantize.h"

#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "budget_flags.h"
#include "calibration_flags.h"
#include "command.h"
#include "knapsaq/base/units.h"
#include "result_json.h"
#include "solver_flags.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  BudgetFlags budget;
  QuantizeOptions quantize;
};

nlohmann::ordered_json json_of(const QuantizeResult& result, const Options& options) {
  nlohmann::ordered_json json = {{"model", options.model},  {"output", options.quantize.output},
                                 {"bytes", result.bytes},   {"bits", result.bits},
                                 {"budget_bytes", nullptr}, {"budget_bits", nullptr},
                                 {"cost", nullptr},         {"objective", nullptr},
                                 {"bound", nullptr},        {"fnorm", result.error},
                                 {"gap", nullptr},          {"seconds", result.seconds}};
  if (result.budget_bytes) json["budget_bytes"] = *result.budget_bytes;
  if (options.budget.others.bits > 0) json["budget_bits"] = options.budget.others.bits;
  if (result.solved) {
    json["cost"] = result.solved->cost;
    json["objective"] = result.solved->objective;
    json["bound"] = result.solved->bound;
    json["gap"] = result.solved->gap;
  }
  json["memory"] = memory_json(result.memory);
  json["allocation"] = allocation_json(result.allocation);
  return json;
}

void run(const Options& options) {
  QuantizeOptions quantize = options.quantize;
  quantize.budget = budget_of(options.budget);
  Environment environment(environment_options(options.common));
  Session session(environment, options.model, Session::Weights::decoded);
  const QuantizeResult result = knapsaq::quantize(session, quantize);
  if (options.common.json) {
    print(json_of(result, options));
    return;
  }
  fmt::print("{}: {} ({} bytes), {:.4f} bits per quantized weight, ", quantize.output,
             format_bytes(result.bytes), result.bytes, result.bits);
  if (result.solved) {
    fmt::print("{}error {:.6g} (proven within {:.1e} of the least)",
               result.solved->cost == "fnorm" ? "" : result.solved->cost + " ", result.solved->objective,
               result.solved->gap);
  } else {
    fmt::print("error {:.6g}", result.error);
  }
  fmt::print(", {}\n", format_seconds(result.seconds));
  if (result.memory) fmt::print("  {}\n", describe(*result.memory));
}

}  // namespace

void add_quantize(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("quantize", "Write the best quantized model that fits a budget");
  verb.option("model", options->model, "Model folder in Hugging Face layout or GGUF file, full precision")
      .required();
  verb.option("-o,--output", options->quantize.output, "Folder to write").required();
  verb.option("--bpw", options->budget.others.bits_per_weight,
              "Budget: bits of all weight files per weight of the whole model")
      .positive();
  verb.option(
          "--bits", options->budget.others.bits,
          "Budget: average bits per weight of the linears, metadata included; embedding and head as stored")
      .positive();
  verb.option("--budget", options->budget.bytes,
              "Budget: bytes of all weight files, as 4200000, 4.2MiB, 1.5GB; never exceeded");
  add_context_flags(verb, options->budget.others);
  verb.option("--scheme", options->quantize.scheme,
              "No search: this scheme for every linear of the blocks, as hqq:b4g64");
  verb.option(
      "--allocation", options->quantize.allocation,
      "No search: the JSON that `knapsaq allocate --json` printed, or a recipe (`knapsaq export --recipe`)");
  const Option bank = verb.option("--bank", options->quantize.bank,
                                  "Choose among and write the linears of a bank made by `knapsaq bank`");
  verb.option("--menu", options->quantize.menu,
              "Schemes to choose from: mxq, mxq-f16, gguf or a list with commas")
      .excludes(bank)
      .show_default();
  verb.option("--table", options->quantize.table,
              "Errors from a CSV of `knapsaq tables`; default: they are measured")
      .excludes(bank);
  verb.option("--keep", options->quantize.keep, kKeepHelp);
  verb.option("--pin", options->quantize.pins,
              "With --scheme: 'PATTERN=SCHEME' for matrices that match, as 'lm_head=b8g64'");
  verb.option("--cost", options->quantize.cost, kCostHelp);
  verb.option("--tie", options->quantize.ties,
              "Linears that share a scheme: none, qkv, gate-up, vllm (both), layer; several with commas")
      .show_default();
  add_solver_flags(verb, options->quantize.solver);
  verb.flag("--propagate", options->quantize.propagate,
            "Quantize anew, stage by stage, with errors of what is quantized before corrected");
  verb.flag("--force", options->quantize.force, "Replace the output folder if it exists");
  add_calibration_flags(verb, options->quantize.calibration, true);
  add_common(verb, options->common);
  verb.example(
      "knapsaq quantize MODEL -o OUT --budget 4.2MiB\n  knapsaq quantize MODEL --bank BANK -o "
      "OUT --bits 3.25");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
