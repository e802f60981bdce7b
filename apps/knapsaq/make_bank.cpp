#include "make_bank.h"

#include <algorithm>
#include <memory>
#include <optional>

#include <fmt/core.h>

#include "command.h"
#include "knapsaq/base/error.h"
#include "knapsaq/export/engine.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq::command {
namespace {

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

/// Statistics of the inputs, if they are asked for, or there from an earlier run, or the menu needs them.
std::optional<FoundInputs> inputs_for(const CalibrationOptions& options, bool wanted,
                                      const Checkpoint& checkpoint, const ModelConfig& config,
                                      const BankRecipe& recipe, const std::filesystem::path& folder) {
  if (!wanted && !needs_inputs(recipe.menu) && options.text.empty() && options.folder.empty() &&
      !has_calibration(folder))
    return std::nullopt;
  return std::optional<FoundInputs>(std::in_place, checkpoint, config, recipe.model, options, folder);
}

/// The scales that an earlier run found with these inputs, or those found now; nothing for methods that want
/// none. Throws UsageError if the bank was begun with scales that were found with other inputs.
std::optional<Folding> folding_for(const CalibrationOptions& options, const Checkpoint& checkpoint,
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
  Folding folding = find_scales(checkpoint, config, recipe.model, *recipe.inputs, options);
  folder.check_folding(folding.identity());
  folding.save(path);
  return folding;
}

}  // namespace

Menu menu_of(const BankOptions& options) {
  Menu menu = with_method(parse_menu(options.menu), options.method);
  for (const Scheme& scheme : menu.schemes) quantizer(scheme.method).check(scheme);
  return options.engine.empty() ? menu : menu_for(find_engine(options.engine), std::move(menu));
}

Selection selection_of(const BankOptions& options, const ModelConfig& config) {
  Selection selection = select_matrices(config, options.keep, options.ends);
  return options.engine.empty() ? selection
                                : selection_for(find_engine(options.engine), std::move(selection));
}

void plan_bank(OutputPlan& plan, const BankOptions& options, const std::filesystem::path& folder) {
  plan.allows(folder / kBankCalibrationName);
  plan_calibration(plan, options.calibration);
}

BankReport make_bank(const Checkpoint& checkpoint, const ModelConfig& config, std::string_view model,
                     const BankOptions& options, const std::filesystem::path& path) {
  check_calibration_options(options.calibration);
  const BankFolder folder(path);
  BankRecipe recipe;
  recipe.model = model;
  recipe.menu = menu_of(options);
  folder.check(recipe.model, recipe.menu);
  recipe.matrices = selection_of(options, config).quantized;
  folder.check_matrices(recipe.matrices);
  check_full_precision(checkpoint, recipe.matrices);
  std::optional<FoundInputs> found =
      inputs_for(options.calibration, options.wants_inputs, checkpoint, config, recipe, folder.calibration());
  // Whatever is refused is refused before a calibration is written that the bank would have to live with.
  folder.check_inputs(found ? found->identity() : "");
  std::unique_ptr<InputSource> inputs;
  if (found) inputs = found->get();
  recipe.inputs = inputs.get();
  check_recipe(recipe);
  const std::optional<Folding> folding = folding_for(options.calibration, checkpoint, config, recipe, folder);
  if (folding) recipe.folding = &*folding;
  return build_bank(checkpoint, recipe, folder, progress());
}

}  // namespace knapsaq::command
