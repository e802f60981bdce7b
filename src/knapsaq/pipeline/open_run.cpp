#include "knapsaq/pipeline/open_run.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/match_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/made_folder.h"
#include "knapsaq/calib/search_text.h"
#include "knapsaq/export/carried.h"
#include "knapsaq/export/engine.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/export/writer.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/pipeline/bank_steps.h"
#include "knapsaq/pipeline/found_inputs.h"
#include "knapsaq/pipeline/self_samples.h"
#include "knapsaq/search/make_space.h"
#include "knapsaq/search/pins.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// The space that the options describe, without local errors: for refusing before anything is made what
/// cannot be done in it.
SearchSpace space_of(const Session& session, const ErrorTable& table, const RunSettings& settings) {
  std::vector<Pin> pins;
  for (const std::string& pin : settings.pins) pins.push_back(parse_pin(pin));
  SearchSpace space = make_space(
      table, settings.ties, pins, Cost::fnorm,
      output_sizes(settings.engine, session.checkpoint(), session.config(), table, {.kept = settings.kept}));
  for (Variable& variable : space.variables)
    for (SpaceLevel& level : variable.levels) {
      level.error = 0;
      level.errors.fill(0);
    }
  return space;
}

std::int64_t windows_of(std::int64_t tokens, std::int64_t window) {
  return std::max<std::int64_t>(1, tokens / window);
}

SampleOptions resolved_samples(const CalibrationOptions& options, const ModelConfig& config) {
  return uses_self(options) ? resolve_self(options.samples, config.max_positions)
                            : resolve(options.samples, config.max_positions);
}

/// The windows that are searched on and those that are held out.
SearchText search_text(Session& session, const RunOptions& options) {
  const CalibrationOptions& calibration = options.calibration;
  SampleOptions search = resolved_samples(calibration, session.config());
  search.samples = windows_of(options.tokens, search.window);
  SampleOptions heldout = search;
  heldout.samples = windows_of(options.heldout, search.window);
  if (uses_self(calibration)) {
    const Precision precision = precision_of(calibration);
    Samples searched = self_samples(session, precision, search, SelfTextUse::search);
    return {std::move(searched), self_samples(session, precision, heldout, SelfTextUse::heldout)};
  }
  const std::vector<fs::path> files(calibration.text.begin(), calibration.text.end());
  return search_windows(session.text(files), session.tokenizer(), search, heldout.samples);
}

/// Whether the engine's readers get the tokenizer, and what else goes with the weights.
void check_carried(const Checkpoint& model, const Engine* engine) {
  const bool folder = engine != nullptr && !writer(engine->format).makes_file();
  static_cast<void>(CarriedFiles(model, folder ? FolderReader::others : FolderReader::knapsaq));
}

std::string text_name(const CalibrationOptions& options) {
  if (uses_self(options)) return fmt::format("self seed {}", options.samples.seed);
  std::string name;
  for (const std::string& file : options.text)
    name += (name.empty() ? "" : ", ") + fs::path(file).filename().string();
  return fmt::format("{}, seed {}", name, options.samples.seed);
}

/// Text of the model's own is a function of the settings: what a run has of it is not sampled again. Files
/// may have changed.
void set_tokens(RunSettings& settings, Session& session, const RunOptions& options, const fs::path& folder) {
  const std::int64_t window = resolved_samples(options.calibration, session.config()).window;
  if (uses_self(options.calibration) && has_run(folder)) {
    RunSettings known = read_run_settings(folder);
    if (known.model == settings.model && known.text == settings.text &&
        known.precision == settings.precision && known.search.length == window &&
        known.search.windows() == windows_of(options.tokens, window) &&
        known.heldout.windows() == windows_of(options.heldout, window)) {
      settings.search = std::move(known.search);
      settings.heldout = std::move(known.heldout);
      return;
    }
  }
  const SearchText found = search_text(session, options);
  settings.search = {found.search.tokens, found.search.options.window};
  settings.heldout = {found.heldout.tokens, found.heldout.options.window};
}

/// Whether something outside the blocks is chosen about.
bool has_ends(const SearchSpace& space) {
  return std::ranges::any_of(space.variables, [](const Variable& variable) { return variable.block < 0; });
}

std::string or_default(const std::string& given, std::string_view usual) {
  return given.empty() ? std::string(usual) : given;
}

BankOptions bank_options(const RunOptions& options, const Engine* engine, bool keep_ends,
                         const ModelConfig& config) {
  BankOptions bank{.menu = or_default(options.menu, engine == nullptr ? "affine" : engine->menu),
                   .method = or_default(options.method, engine == nullptr ? "gptq" : engine->method),
                   .keep = options.keep,
                   .ends = !keep_ends,
                   .engine = options.engine,
                   .wants_inputs = true,
                   .calibration = options.calibration};
  // What judges the result must not have calibrated its codes. Text of the model's own is another one anyway.
  if (!uses_self(options.calibration)) {
    const std::int64_t window = resolved_samples(options.calibration, config).window;
    bank.calibration.samples.held_back = windows_of(options.heldout, window) * window;
  }
  return bank;
}

/// Throws UsageError if the engine does not load what is in the bank.
void check_given_bank(const Bank& bank, const std::string& name, const Engine* engine) {
  if (engine != nullptr &&
      menu_for(*engine, bank.index().menu).whole_groups != bank.index().menu.whole_groups)
    throw UsageError(
        fmt::format("{}: has groups that are not whole, which {} does not load: build it with "
                    "--for {}",
                    name, engine->name, engine->name));
}

}  // namespace

fs::path plan_run(OutputPlan& plan, const Session& session, const RunOptions& options,
                  const std::string& name) {
  plan.allows(fs::path(name) / kRunBankName);
  plan.reads("the model", session.path());
  plan.reads("the bank", options.bank);
  plan_texts(plan, options.calibration.text);
  fs::path folder = plan.workspace(name);
  Run::check_place(folder);
  if (options.bank.empty()) check_bank_place(folder / kRunBankName);
  return folder;
}

Run open_run(Session& session, const RunOptions& options, const fs::path& folder, bool keep_ends,
             const SpaceCheck& check) {
  if (options.any_run && has_run(folder)) {
    Run run = Run::open(folder, Access::write, session.path());
    if (keep_ends && has_ends(run.space()))
      throw UsageError(
          fmt::format("{}: holds a run that decides about embedding and head too, and --bits is an average "
                      "over the linears of the blocks: give --budget or --bpw, or another --run",
                      folder.string()));
    check(run.space(), run.config(), run.settings().engine);
    session.listener().run_begins(folder);
    return run;
  }
  const ModelConfig& config = session.config();
  check_shapes(session.checkpoint(), config);
  check_calibration_options(options.calibration);
  const Engine* engine = options.engine.empty() ? nullptr : &find_engine(options.engine);
  check_carried(session.checkpoint(), engine);
  const BankOptions bank = bank_options(options, engine, keep_ends, config);
  const MatrixSelection selection = selection_of(bank, config);
  check_texts(session, options.calibration);
  const ErrorTable sizes = options.bank.empty()
                               ? size_table(selection.quantized, menu_of(session, bank, selection.quantized))
                               : without(Bank::open(options.bank).table(), selection.dense);
  RunSettings settings;
  settings.ties = ties_for(engine, options.ties, config);
  settings.pins = options.pins;
  settings.engine = options.engine;
  settings.dense = selection.dense;
  settings.kept = selection.kept;
  check(space_of(session, sizes, settings), config, settings.engine);
  settings.model = session.fingerprint();
  if (!options.bank.empty()) {
    const Bank given = Bank::open(options.bank);
    given.check_model(settings.model, config);
    check_given_bank(given, options.bank, engine);
  }
  const fs::path bank_folder = options.bank.empty() ? folder / kRunBankName : fs::path(options.bank);
  settings.text = text_name(options.calibration);
  settings.divergence = parse_divergence(options.divergence);
  settings.precision = precision_of(options.calibration);
  settings.search.length = settings.heldout.length = resolved_samples(options.calibration, config).window;
  // What is refused is refused before anything of it is in the folder, and before the bank is made. Only text
  // of the model's own that is not there yet comes later: sampling it takes long, and would be lost with a
  // kill.
  Run::check(folder, settings, bank_folder);
  const bool exists = has_run(folder);
  const bool samples_later = uses_self(options.calibration) && !exists;
  if (!samples_later) set_tokens(settings, session, options, folder);
  Run::check(folder, settings, bank_folder);
  if (!exists) session.listener().run_begins(folder);
  const MadeFolder made(folder);
  if (options.bank.empty()) fill_bank(session, bank, bank_folder);
  if (samples_later) set_tokens(settings, session, options, folder);
  Run run = Run::create(folder, session.path(), bank_folder, settings);  // may still refuse
  if (exists) session.listener().run_begins(folder);
  return run;
}

}  // namespace knapsaq
