#include <memory>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "calibration_flags.h"
#include "command.h"
#include "knapsaq/base/units.h"
#include "knapsaq/export/engine.h"
#include "knapsaq/pipeline/make_bank.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  std::string output;
  BankOptions bank;
};

void run(const Options& options) {
  Environment environment(environment_options(options.common));
  Session session(environment, options.model, Session::Weights::decoded);
  const BankResult result = make_bank(session, options.bank, options.output);

  if (options.common.json) {
    print({{"model", options.model},
           {"output", options.output},
           {"linears", result.linears},
           {"schemes", result.schemes},
           {"kept", result.kept},
           {"damaged", result.damaged},
           {"bytes", result.bytes},
           {"seconds", result.seconds}});
    return;
  }
  fmt::print("{}: {} matrices by {} schemes, {}, {}", options.output, result.linears, result.schemes,
             format_bytes(result.bytes), format_seconds(result.seconds));
  if (result.kept != 0) fmt::print(", {} matrices were there already", result.kept);
  if (result.damaged != 0) fmt::print(", {} were damaged and made anew", result.damaged);
  fmt::print("\n");
}

}  // namespace

void add_bank(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("bank", "Quantize every matrix by every scheme, once, and keep it");
  verb.option("model", options->model, "Model folder in Hugging Face layout or GGUF file, full precision")
      .required();
  verb.option("-o,--output", options->output,
              "Folder of the bank; a run that was interrupted goes on where it was")
      .required();
  verb.option("--menu", options->bank.menu,
              "mxq, mxq-f16, gguf or schemes separated by commas; see docs/commands.md")
      .show_default();
  verb.option("--method", options->bank.method,
              "Method for the menu's affine schemes: gptq, awq, hqq, rtn, hqq-diag, rtn-diag");
  verb.option("--for", options->bank.engine,
              fmt::format("Engine that has to load what comes of it: {}", fmt::join(engine_names(), ", ")));
  verb.option("--keep", options->bank.keep, kKeepHelp);
  add_calibration_flags(verb, options->bank.calibration, true);
  add_common(verb, options->common);
  verb.example("knapsaq bank MODEL -o BANK --method gptq --text self");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
