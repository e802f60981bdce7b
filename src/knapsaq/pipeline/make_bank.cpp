#include "knapsaq/pipeline/make_bank.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/bank/match_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/export/engine.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/pipeline/bank_steps.h"
#include "knapsaq/pipeline/found_inputs.h"
#include "knapsaq/pipeline/lattices.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {
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
std::optional<FoundInputs> inputs_for(Session& session, const BankOptions& options, const Menu& menu,
                                      const std::filesystem::path& folder) {
  const CalibrationOptions& calibration = options.calibration;
  if (!options.wants_inputs && !needs_inputs(menu) && calibration.text.empty() && !calibration.fisher &&
      calibration.folder.empty() && !has_calibration(folder))
    return std::nullopt;
  return std::optional<FoundInputs>(std::in_place, session, calibration, folder);
}

/// The scales that an earlier run found with these inputs, or those found now; nothing for methods that want
/// none. Throws UsageError if the bank was begun with scales that were found with other inputs.
std::optional<Folding> folding_for(Session& session, const CalibrationOptions& options,
                                   const BankRecipe& recipe, const BankFolder& folder) {
  if (!wants_folding(recipe.menu.schemes)) return std::nullopt;
  const std::filesystem::path path = folder.folding();
  if (std::filesystem::exists(path)) {
    Folding there = Folding::load(path, session.config(), recipe.model);
    const std::string origin = scales_origin(*recipe.inputs);
    if (there.origin() == origin) return there;
    if (folder.is_begun())
      throw UsageError(
          fmt::format("{}: was found with other statistics of the inputs ({} there, {} here): give the same, "
                      "or another folder",
                      path.string(), there.origin(), origin));
  }
  Folding folding = find_scales(session, *recipe.inputs, options);
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

Menu menu_of(const Session& session, const BankOptions& options, std::span<const Matrix> matrices,
             std::string* note) {
  Menu menu = menu_of(options);
  const Engine* engine = options.engine.empty() ? nullptr : &find_engine(options.engine);
  std::string line = add_lattices(session.checkpoint(), matrices, engine, menu);
  if (note != nullptr) *note = std::move(line);
  return menu;
}

MatrixSelection selection_of(const BankOptions& options, const ModelConfig& config) {
  MatrixSelection selection = select_matrices(config, options.keep, options.ends);
  return options.engine.empty() ? selection
                                : selection_for(find_engine(options.engine), std::move(selection));
}

void plan_bank(OutputPlan& plan, const BankOptions& options, const std::filesystem::path& folder) {
  plan.allows(folder / kBankCalibrationName);
  plan_calibration(plan, options.calibration);
}

BankReport fill_bank(Session& session, const BankOptions& options, const std::filesystem::path& path) {
  check_calibration_options(options.calibration);
  const BankFolder folder(path);
  BankRecipe recipe;
  recipe.model = session.fingerprint();
  recipe.matrices = selection_of(options, session.config()).quantized;
  std::string lattices;
  recipe.menu = menu_of(session, options, recipe.matrices, &lattices);
  if (!lattices.empty()) session.listener().note(lattices);
  folder.check(recipe.model, recipe.menu);
  folder.check_matrices(recipe.matrices);
  if (const std::string line = fallback_note(recipe.matrices, recipe.menu.schemes); !line.empty())
    session.listener().note(line);
  check_full_precision(session.checkpoint(), recipe.matrices);
  std::optional<FoundInputs> found = inputs_for(session, options, recipe.menu, folder.calibration());
  // Whatever is refused is refused before a calibration is written that the bank would have to live with.
  // A bank goes on as it was begun: one that was begun without Fisher costs has none.
  if (found && folder.is_begun() && !folder.has_fisher()) found->forget_outputs();
  folder.check_inputs(found ? found->identity() : "");
  std::unique_ptr<InputSource> inputs;
  if (found) inputs = found->get();
  recipe.inputs = inputs.get();
  check_recipe(recipe);
  const std::optional<Folding> folding = folding_for(session, options.calibration, recipe, folder);
  if (folding) recipe.folding = &*folding;
  session.make_room();
  return build_bank(session.checkpoint(), recipe, folder, session.listener());
}

BankResult make_bank(Session& session, const BankOptions& options, const std::string& output) {
  const ExecutionScope scope(session.execution());
  OutputPlan plan;
  plan.reads("the model", session.path());
  plan_bank(plan, options, output);
  const std::filesystem::path folder = plan.workspace(output);
  check_bank_place(folder);
  (void)menu_of(options);  // what is wrong with it comes before what is wrong with the model
  check_shapes(session.checkpoint(), session.config());
  const BankReport report = fill_bank(session, options, folder);
  return {.linears = report.linears,
          .schemes = report.schemes,
          .kept = report.kept,
          .damaged = report.damaged,
          .bytes = report.bytes,
          .seconds = report.seconds};
}

}  // namespace knapsaq
