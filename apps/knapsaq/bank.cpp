#include <algorithm>
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "calibration.h"
#include "command.h"
#include "knapsaq/bank/build_bank.h"
#include "knapsaq/base/error.h"
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

/// Whether some scheme cannot do without statistics of the inputs.
bool needs_inputs(const Menu& menu) {
  return std::ranges::any_of(
      menu.schemes, [](const Scheme& scheme) { return quantizer(scheme.method).needs() != Needs::nothing; });
}

/// Throws UsageError for what can be known to be missing before anything is made.
void check_usage(const Options& options, const Menu& menu) {
  for (const Scheme& scheme : menu.schemes) quantizer(scheme.method).check(scheme);
  check_calibration_options(options.calibration);
}

/// Statistics of the inputs, if they are asked for, or there from an earlier run, or the menu needs them.
std::unique_ptr<InputSource> inputs_for(const Options& options, const Checkpoint& checkpoint,
                                        const ModelConfig& config, const BankRecipe& recipe,
                                        const std::filesystem::path& folder) {
  if (!needs_inputs(recipe.menu) && options.calibration.text.empty() && options.calibration.folder.empty() &&
      !has_calibration(folder))
    return nullptr;
  return find_inputs(checkpoint, config, recipe.model, options.calibration, folder);
}

/// The scales that an earlier run found with these inputs, or those found now; nothing for methods that want
/// none. Throws UsageError if the bank was begun with scales that were found with other inputs.
std::optional<Folding> folding_for(const Options& options, const Checkpoint& checkpoint,
                                   const ModelConfig& config, const BankRecipe& recipe,
                                   const BankFolder& folder) {
  if (!wants_folding(recipe.menu.schemes)) return std::nullopt;
  const std::filesystem::path path = folder.folding();
  if (std::filesystem::exists(path)) {
    Folding there = Folding::load(path, config, recipe.model);
    const std::string origin = scales_origin(*recipe.inputs);
    if (there.origin() == origin) return there;
    if (folder.is_begun())
      throw UsageError(
          fmt::format("{}: was found with other statistics of the inputs ({} there, {} here): give the same, "
                      "or another folder",
                      path.string(), there.origin(), origin));
  }
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
  check_usage(options, menu);
  const BankFolder folder(options.output);
  BankRecipe recipe;
  recipe.model = fingerprint(checkpoint, progress());
  recipe.menu = menu;
  folder.check(recipe.model, menu);
  const std::unique_ptr<InputSource> inputs =
      inputs_for(options, checkpoint, config, recipe, folder.calibration());
  recipe.inputs = inputs.get();
  check_recipe(recipe);
  const std::optional<Folding> folding = folding_for(options, checkpoint, config, recipe, folder);
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
  verb->footer("Example:\n  knapsaq bank MODEL -o BANK --method gptq --text self");
  verb->callback([options] { run(*options); });
}

}  // namespace knapsaq::command
