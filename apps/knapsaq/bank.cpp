#include <memory>
#include <optional>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "calibration.h"
#include "command.h"
#include "knapsaq/bank/build_bank.h"
#include "knapsaq/base/units.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  std::string output;
  std::string menu = "mxq";
  std::string method;
  CalibrationOptions calibration;
};

/// The menu with another method for its affine schemes; GGML types and nf4 are methods of their own.
Menu with_method(Menu menu, const std::string& method) {
  if (method.empty()) return menu;
  for (Scheme& scheme : menu.schemes) {
    if (ggml_type(scheme) || scheme == nf4_scheme()) continue;
    scheme.method = method;
    quantizer(method).check(scheme);
  }
  return menu;
}

/// Statistics of the inputs, if they are asked for, or there from an earlier run, or the menu needs them.
std::unique_ptr<InputSource> inputs_for(const Options& options, const Checkpoint& checkpoint,
                                        const ModelConfig& config, const BankRecipe& recipe,
                                        const std::filesystem::path& folder) {
  std::string need;
  for (const Scheme& scheme : recipe.menu.schemes)
    if (quantizer(scheme.method).needs() != Needs::nothing) need = "method " + scheme.method;
  if (need.empty() && options.calibration.text.empty() && options.calibration.folder.empty() &&
      !has_calibration(folder))
    return nullptr;
  return find_inputs(checkpoint, config, recipe.model, options.calibration, folder, need);
}

/// The scales that an earlier run found, or those found now; nothing for methods that want none.
std::optional<Folding> folding_for(const Options& options, const Checkpoint& checkpoint,
                                   const ModelConfig& config, const BankRecipe& recipe,
                                   const std::filesystem::path& path) {
  if (!wants_folding(recipe.menu.schemes)) return std::nullopt;
  if (std::filesystem::exists(path)) return Folding::load(path, config, recipe.model);
  Folding folding = find_scales(checkpoint, config, recipe.model, *recipe.inputs, options.calibration);
  folding.save(path);
  return folding;
}

void run(const Options& options) {
  start(options.common);
  const Menu menu = with_method(parse_menu(options.menu), options.method);
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  const ModelConfig config = parse_model_config(checkpoint.config());
  check_shapes(checkpoint, config);
  const BankFolder folder(options.output);
  BankRecipe recipe;
  recipe.model = fingerprint(checkpoint, progress());
  recipe.menu = menu;
  folder.check(recipe.model, menu);
  const std::unique_ptr<InputSource> inputs =
      inputs_for(options, checkpoint, config, recipe, folder.calibration());
  recipe.inputs = inputs.get();
  const std::optional<Folding> folding = folding_for(options, checkpoint, config, recipe, folder.folding());
  if (folding) recipe.folding = &*folding;
  const BankReport report = build_bank(checkpoint, config, recipe, folder, progress());

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
  fmt::print("{}: {} linears by {} schemes, {}, {}", options.output, report.linears, menu.schemes.size(),
             format_bytes(report.bytes), format_seconds(report.seconds));
  if (report.kept != 0) fmt::print(", {} linears were there already", report.kept);
  if (report.damaged != 0) fmt::print(", {} were damaged and made anew", report.damaged);
  fmt::print("\n");
}

}  // namespace

void add_bank(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("bank", "Quantize every linear by every scheme, once, and keep it");
  verb->add_option("model", options->model, "Model folder in Hugging Face layout, full precision")
      ->required();
  verb->add_option("-o,--output", options->output,
                   "Folder of the bank; a run that was interrupted goes on where it was")
      ->required();
  verb->add_option("--menu", options->menu,
                   "mxq, mxq-f16, gguf or schemes separated by commas; see docs/commands.md")
      ->capture_default_str();
  verb->add_option("--method", options->method,
                   "Method for the menu's affine schemes: gptq, awq, hqq, rtn, hqq-diag, rtn-diag");
  add_calibration_options(*verb, options->calibration, true);
  add_common(*verb, options->common);
  verb->footer("Example:\n  knapsaq bank MODEL -o BANK --method gptq --text wiki.txt");
  verb->callback([options] { run(*options); });
}

}  // namespace knapsaq::command
