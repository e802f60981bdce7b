#include <memory>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/units.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/export/engine.h"
#include "knapsaq/model/expected_tensors.h"
#include "make_bank.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  std::string output;
  BankOptions bank;
};

void run(const Options& options) {
  start(options.common);
  OutputPlan plan;
  plan.reads("the model", options.model);
  plan_bank(plan, options.bank, options.output);
  const std::filesystem::path folder = plan.workspace(options.output);
  check_bank_place(folder);
  const Menu menu = menu_of(options.bank);
  const Checkpoint checkpoint = Checkpoint::open_folder(options.model);
  const ModelConfig config = model_config(checkpoint);
  check_shapes(checkpoint, config);
  check_calibration_options(options.bank.calibration);
  const BankReport report =
      make_bank(checkpoint, config, fingerprint(checkpoint, progress()), options.bank, folder);

  if (options.common.json) {
    print({{"model", options.model},
           {"output", options.output},
           {"linears", report.linears},
           {"schemes", menu.schemes.size()},
           {"kept", report.kept},
           {"damaged", report.damaged},
           {"bytes", report.bytes},
           {"seconds", report.seconds}});
    return;
  }
  fmt::print("{}: {} matrices by {} schemes, {}, {}", options.output, report.linears, menu.schemes.size(),
             format_bytes(report.bytes), format_seconds(report.seconds));
  if (report.kept != 0) fmt::print(", {} matrices were there already", report.kept);
  if (report.damaged != 0) fmt::print(", {} were damaged and made anew", report.damaged);
  fmt::print("\n");
}

}  // namespace

void add_bank(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("bank", "Quantize every matrix by every scheme, once, and keep it");
  verb.option("model", options->model, "Model folder in Hugging Face layout, full precision").required();
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
  add_calibration_options(verb, options->bank.calibration, true);
  add_common(verb, options->common);
  verb.example("knapsaq bank MODEL -o BANK --method gptq --text self");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
