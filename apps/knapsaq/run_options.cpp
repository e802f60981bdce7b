#include "run_options.h"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "command.h"
#include "knapsaq/bank/match_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/made_folder.h"
#include "knapsaq/base/units.h"
#include "knapsaq/calib/search_text.h"
#include "knapsaq/calib/self_text.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/export/engine.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/search/best_point.h"
#include "knapsaq/search/goal.h"
#include "knapsaq/text/tokenizer.h"
#include "make_bank.h"
#include "search_display.h"

namespace knapsaq::command {
namespace {

namespace fs = std::filesystem;

/// The space that the options describe, without local errors: for refusing before anything is made what
/// cannot be done in it.
SearchSpace space_of(const RunOptions& options, const Checkpoint& checkpoint, const ModelConfig& config,
                     const ErrorTable& table, const RunSettings& settings) {
  std::vector<Pin> pins;
  for (const std::string& pin : options.pins) pins.push_back(parse_pin(pin));
  SearchSpace space =
      make_space(table, settings.ties, pins, Cost::fnorm,
                 output_sizes(settings.engine, checkpoint, config, table, {.kept = settings.kept}));
  for (Variable& variable : space.variables)
    for (SpaceLevel& level : variable.levels) level.error = 0;
  return space;
}

/// Windows that `--tokens` makes.
std::int64_t search_count(const RunOptions& options, std::int64_t window) {
  return std::max<std::int64_t>(1, options.tokens / window);
}
/// Windows that `--heldout` makes.
std::int64_t heldout_windows(const RunOptions& options, std::int64_t window) {
  return std::max<std::int64_t>(1, options.heldout / window);
}

bool is_self_text(const RunOptions& options) {
  return options.calibration.text.empty() || is_self(options.calibration.text);
}

SampleOptions resolved_samples(const RunOptions& options, const ModelConfig& config) {
  const CalibrationOptions& calibration = options.calibration;
  return is_self_text(options) ? resolve_self(calibration.samples, config.max_positions)
                               : resolve(calibration.samples, config.max_positions);
}

/// The windows that are searched on and those that are held out.
SearchText search_text(const RunOptions& options, const Checkpoint& checkpoint, const ModelConfig& config) {
  const CalibrationOptions& calibration = options.calibration;
  const bool self = is_self_text(options);
  SampleOptions search = resolved_samples(options, config);
  search.samples = search_count(options, search.window);
  SampleOptions heldout = search;
  heldout.samples = heldout_windows(options, search.window);
  if (!self) {
    const std::vector<fs::path> files(calibration.text.begin(), calibration.text.end());
    return search_windows(read_calibration_text(files), Tokenizer::load(checkpoint.folder()), search,
                          heldout.samples);
  }
  const auto backend = calibration_backend(calibration);
  return {self_text(checkpoint, config, *backend, search, SelfTextUse::search, progress()),
          self_text(checkpoint, config, *backend, heldout, SelfTextUse::heldout, progress())};
}

std::string text_name(const CalibrationOptions& options) {
  if (options.text.empty() || is_self(options.text)) return fmt::format("self seed {}", options.samples.seed);
  std::string name;
  for (const std::string& file : options.text)
    name += (name.empty() ? "" : ", ") + fs::path(file).filename().string();
  return fmt::format("{}, seed {}", name, options.samples.seed);
}

/// Text of the model's own is a function of the settings: what a run has of it is not sampled again. Files
/// may have changed.
void set_tokens(RunSettings& settings, const RunOptions& options, const Checkpoint& checkpoint,
                const ModelConfig& config) {
  const std::int64_t window = resolved_samples(options, config).window;
  if (is_self_text(options) && has_run(options.folder)) {
    RunSettings known = read_run_settings(options.folder);
    if (known.model == settings.model && known.text == settings.text &&
        known.precision == settings.precision && known.search.length == window &&
        known.search.windows() == search_count(options, window) &&
        known.heldout.windows() == heldout_windows(options, window)) {
      settings.search = std::move(known.search);
      settings.heldout = std::move(known.heldout);
      return;
    }
  }
  const SearchText found = search_text(options, checkpoint, config);
  settings.search = {found.search.tokens, found.search.options.window};
  settings.heldout = {found.heldout.tokens, found.heldout.options.window};
}

/// Whether something outside the blocks is chosen about.
bool has_ends(const SearchSpace& space) {
  return std::ranges::any_of(space.variables, [](const Variable& variable) { return variable.block < 0; });
}

}  // namespace

void add_run_options(Verb verb, RunOptions& options) {
  const auto defines = [&](Option option) { options.defining.push_back(option); };
  defines(verb.option(
      "--for", options.engine,
      fmt::format("Engine that has to load the result: {}; sets menu, method, ties, what stays dense, "
                  "and the format that is written",
                  fmt::join(engine_names(), ", "))));
  defines(verb.option(
      "--menu", options.menu,
      "Schemes to choose from: affine, mxq, mxq-f16, gguf or a list; default: affine, or the engine's"));
  defines(verb.option("--method", options.method,
                      "Method for the menu's affine schemes; default: gptq, or the engine's"));
  defines(verb.option("--bank", options.bank,
                      "A bank made by `knapsaq bank`, in the place of one of the run's own"));
  defines(verb.option(
      "--tie", options.ties,
      "Linears that share a scheme: none, qkv, gate-up, vllm (both), layer; default: none, or the "
      "engine's"));
  defines(verb.option("--pin", options.pins,
                      "'PATTERN=SCHEME', 'PATTERN>=BITS' or 'PATTERN<=BITS' for linears that match"));
  defines(verb.option("--keep", options.keep, kKeepHelp));
  defines(verb.option("--tokens", options.tokens, "Tokens that an allocation is measured on")
              .range(2, std::int64_t{1} << 32)
              .show_default());
  defines(verb.option("--heldout", options.heldout, "Tokens that the result is judged by, unseen before")
              .range(2, std::int64_t{1} << 32)
              .show_default());
  defines(verb.option("--divergence", options.divergence, "kl, or jsd as AMQ measures")
              .one_of({"kl", "jsd"})
              .show_default());
  const std::vector<Option> before = verb.options();
  add_calibration_options(verb, options.calibration, false, "--text-seed");
  for (Option option : verb.options())
    if (std::ranges::find(before, option) == before.end()) defines(option);
}

void plan_run(OutputPlan& plan, RunOptions& options) {
  const fs::path own_bank = fs::path(options.run) / kRunBankName;
  plan.allows(own_bank);
  plan.reads("the model", options.model);
  plan.reads("the bank", options.bank);
  plan_texts(plan, options.calibration.text);
  options.folder = plan.workspace(options.run);
  Run::check_place(options.folder);
  if (options.bank.empty()) check_bank_place(options.folder / kRunBankName);
}

Run find_run(const RunOptions& options, const SpaceCheck& check) {
  const bool defined = std::ranges::any_of(options.defining, [](Option o) { return o.given(); });
  if (!defined && has_run(options.folder)) {
    Run run = Run::open(options.folder, Access::write, options.model);
    if (options.keep_ends && has_ends(run.space()))
      throw UsageError(
          fmt::format("{}: holds a run that decides about embedding and head too, and --bits is an average "
                      "over the linears of the blocks: give --budget or --bpw, or another --run",
                      options.folder.string()));
    check(run.space(), parameters(run.config()));
    return run;
  }
  const Checkpoint checkpoint = Checkpoint::open_folder(options.model);
  const ModelConfig config = model_config(checkpoint);
  check_shapes(checkpoint, config);
  const Engine* engine = options.engine.empty() ? nullptr : &find_engine(options.engine);
  const auto or_default = [](const std::string& given, std::string_view usual) {
    return given.empty() ? std::string(usual) : given;
  };
  BankOptions bank{.menu = or_default(options.menu, engine == nullptr ? "affine" : engine->menu),
                   .method = or_default(options.method, engine == nullptr ? "gptq" : engine->method),
                   .keep = options.keep,
                   .ends = !options.keep_ends,
                   .engine = options.engine,
                   .wants_inputs = true,
                   .calibration = options.calibration};
  const Selection selection = selection_of(bank, config);
  // What judges the result must not have calibrated its codes. Text of the model's own is another one anyway.
  if (!is_self_text(options)) {
    const std::int64_t window = resolved_samples(options, config).window;
    bank.calibration.samples.held_back = heldout_windows(options, window) * window;
  }
  check_texts(options.calibration);
  const ErrorTable sizes = options.bank.empty() ? size_table(selection.quantized, menu_of(bank))
                                                : without(Bank::open(options.bank).table(), selection.dense);
  RunSettings settings;
  settings.ties = or_default(options.ties, engine == nullptr ? "none" : engine->ties);
  settings.pins = options.pins;
  settings.engine = options.engine;
  settings.dense = selection.dense;
  settings.kept = selection.kept;
  check(space_of(options, checkpoint, config, sizes, settings), parameters(config));
  const std::string model = fingerprint(checkpoint, progress());
  if (!options.bank.empty()) {
    const Bank given = Bank::open(options.bank);
    given.check_model(model, config);
    if (engine != nullptr &&
        menu_for(*engine, given.index().menu).whole_groups != given.index().menu.whole_groups)
      throw UsageError(
          fmt::format("{}: has groups that are not whole, which {} does not load: build it with "
                      "--for {}",
                      options.bank, engine->name, engine->name));
  }
  const fs::path bank_folder = options.bank.empty() ? options.folder / kRunBankName : fs::path(options.bank);
  settings.model = model;
  settings.text = text_name(options.calibration);
  settings.divergence = parse_divergence(options.divergence);
  settings.precision = options.calibration.precision == "fp32" ? Precision::fp32 : Precision::bf16;
  settings.search.length = settings.heldout.length = resolved_samples(options, config).window;
  // What is refused is refused before anything of it is in the folder, and before the bank is made. Only text
  // of the model's own that is not there yet comes later: sampling it takes long, and would be lost with a
  // kill.
  Run::check(options.folder, settings, bank_folder);
  const bool samples_later = is_self_text(options) && !has_run(options.folder);
  if (!samples_later) set_tokens(settings, options, checkpoint, config);
  Run::check(options.folder, settings, bank_folder);
  const MadeFolder made(options.folder);
  if (options.bank.empty()) make_bank(checkpoint, config, model, bank, bank_folder);
  if (samples_later) set_tokens(settings, options, checkpoint, config);
  return Run::create(options.folder, options.model, bank_folder, settings);
}

void add_budget_options(Verb verb, BudgetOptions& options) {
  verb.option("--budget", options.bytes, "Most bytes of all files, as 4200000, 4.2MiB, 1.5GB");
  verb.option("--bpw", options.bits_of_files, "Budget as bits of all files per weight of the whole model")
      .positive();
  verb.option("--bits", options.bits,
              "Budget as average bits per weight of the linears, embedding and head as stored")
      .positive();
}

Budget parse_budget(const BudgetOptions& options, const SearchSpace& space, std::int64_t parameters) {
  const int given = !options.bytes.empty() + (options.bits > 0) + (options.bits_of_files > 0);
  if (given != 1) throw UsageError("give one of --budget, --bpw and --bits");
  Budget budget;
  if (!options.bytes.empty()) budget = {parse_bytes(options.bytes), Budget::Of::files};
  if (options.bits_of_files > 0)
    budget = {bits_budget(options.bits_of_files, parameters).bytes, Budget::Of::files};
  if (options.bits > 0) budget = bits_budget(options.bits, space.parameters);
  require_feasible(space, budget);
  return budget;
}

void add_search_options(Verb verb, SearchOptions& options, bool with_strategy) {
  std::string names;
  for (const StrategyInfo& info : strategies()) names += (names.empty() ? "" : ", ") + std::string(info.name);
  if (with_strategy) verb.option("--strategy", options.strategy, names).show_default();
  verb.option("--set", options.set,
              "A constant of the strategy, as rounds=8; `knapsaq strategies` lists them");
  verb.option("--seed", options.seed, "Seed of the search").range(0).show_default();
  verb.option("--evaluations", options.evaluations,
              "Most measurements; 0: what the strategy's constants make of it")
      .range(0, std::int64_t{1} << 40)
      .show_default();
}

namespace {

OptionValues option_values(const SearchOptions& options) {
  OptionValues values(find_strategy(options.strategy).options);
  for (const std::string& assignment : options.set) values.set(assignment);
  if (options.faithful) values.set("faithful=1");
  return values;
}

}  // namespace

namespace {

/// A strategy with what it was made from, which has to outlive it.
struct Prepared {
  StrategySetup setup;
  std::unique_ptr<Goal> goal;
  std::string course;  ///< everything but the seed that decides about the questions
  std::unique_ptr<Strategy> strategy;
};
Prepared prepare(const SearchOptions& options, const SearchSpace& space, Divergence divergence,
                 std::int64_t windows, std::optional<Budget> budget) {
  const StrategyInfo& info = find_strategy(options.strategy);
  const OptionValues values = option_values(options);
  Prepared result;
  StrategySetup& setup = result.setup;
  setup.space = &space;
  setup.divergence = divergence;
  setup.windows = windows;
  setup.seed = options.seed;
  setup.evaluations = options.evaluations;
  setup.budget = budget;
  if (!options.goal.empty()) {
    result.goal = make_goal(options.goal, space, setup.budget, divergence);
    setup.goal = result.goal.get();
  }
  result.course = values.to_string();
  if (options.evaluations > 0) result.course += fmt::format(" evaluations={}", options.evaluations);
  if (budget) result.course += fmt::format(" {}", to_string(*budget));
  if (!options.goal.empty()) result.course += fmt::format(" goal={}", options.goal);
  result.strategy = info.make(setup, values);
  return result;
}

}  // namespace

void check_search(const SearchOptions& options, const SearchSpace& space, std::optional<Budget> budget) {
  prepare(options, space, Divergence::kl, 1, budget);
}

void require_search(const fs::path& folder, const SearchOptions& options, const SearchSpace& space,
                    std::optional<Budget> budget) {
  const std::string course = prepare(options, space, Divergence::kl, 1, budget).course;
  const auto is_this = [&](const SearchRecord& record) {
    return record.strategy == options.strategy && record.options == course && record.seed == options.seed;
  };
  if (std::ranges::none_of(read_searches(folder), is_this))
    throw UsageError(fmt::format(
        "{}: has no such search that could be resumed: leave out --resume to start it", folder.string()));
}

SearchReport run_search(Run& run, Evaluator& evaluator, const SearchOptions& options,
                        std::optional<Budget> budget) {
  const Prepared search =
      prepare(options, run.space(), run.settings().divergence, evaluator.windows(), budget);
  const SearchRecord record = run.archive().search(options.strategy, search.course, options.seed);
  run.reference_loss(kSearchSet, &evaluator);
  SearchDisplay display(run.space(), run.settings().divergence, options.strategy, budget);
  return knapsaq::run_search(*search.strategy, search.setup, record, evaluator, run.archive(),
                             [&](const SearchStatus& status) { display.show(status); });
}

}  // namespace knapsaq::command
