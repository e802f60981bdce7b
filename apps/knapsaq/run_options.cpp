#include "run_options.h"

#include <algorithm>
#include <cmath>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "command.h"
#include "knapsaq/bank/match_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/units.h"
#include "knapsaq/calib/search_text.h"
#include "knapsaq/calib/self_text.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/search/goal.h"
#include "knapsaq/text/tokenizer.h"
#include "make_bank.h"
#include "search_display.h"

namespace knapsaq::command {
namespace {

namespace fs = std::filesystem;

/// Refuses, before anything is made, budgets that nothing of the menu fits into, and pins that contradict.
void check_space(const RunOptions& options, const Checkpoint& checkpoint, const ModelConfig& config,
                 const Menu& menu, std::optional<std::uint64_t> budget) {
  std::vector<Pin> pins;
  for (const std::string& pin : options.pins) pins.push_back(parse_pin(pin));
  const SearchSpace space = make_space(
      size_table(linears(config), menu), options.ties, pins, Cost::fnorm,
      [&](std::span<const Scheme> schemes) { return layout_quantized(checkpoint, config, schemes).bytes; });
  if (!budget) return;
  const std::uint64_t least = space.bytes(space.smallest());
  if (*budget < least)
    throw InfeasibleError(
        fmt::format("a budget of {} bytes is too small: the smallest model that this menu can make takes {} "
                    "bytes ({})",
                    *budget, least, format_bytes(least)),
        static_cast<double>(least));
}

/// The windows that are searched on and those that are held out.
SearchText search_text(const RunOptions& options, const Checkpoint& checkpoint, const ModelConfig& config) {
  const CalibrationOptions& calibration = options.calibration;
  const bool self = calibration.text.empty() || is_self(calibration.text);
  SampleOptions search = self ? resolve_self(calibration.samples, config.max_positions)
                              : resolve(calibration.samples, config.max_positions);
  search.samples = std::max<std::int64_t>(1, options.tokens / search.window);
  SampleOptions heldout = search;
  heldout.samples = std::max<std::int64_t>(1, options.heldout / search.window);
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

}  // namespace

void add_run_options(CLI::App& verb, RunOptions& options) {
  const auto defines = [&](CLI::Option* option) { options.defining.push_back(option); };
  defines(verb.add_option("--menu", options.menu, "Schemes to choose from: mxq, mxq-f16, gguf or a list")
              ->capture_default_str());
  defines(verb.add_option("--method", options.method, "Method for the menu's affine schemes")
              ->capture_default_str());
  defines(verb.add_option("--bank", options.bank,
                          "A bank made by `knapsaq bank`, in the place of one of the run's own"));
  defines(verb.add_option("--tie", options.ties,
                          "Linears that share a scheme: none, qkv, gate-up, vllm (both), layer")
              ->capture_default_str());
  defines(verb.add_option("--pin", options.pins,
                          "'PATTERN=SCHEME', 'PATTERN>=BITS' or 'PATTERN<=BITS' for linears that match"));
  defines(verb.add_option("--tokens", options.tokens, "Tokens that an allocation is measured on")
              ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 32))
              ->capture_default_str());
  defines(verb.add_option("--heldout", options.heldout, "Tokens that the result is judged by, unseen before")
              ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 32))
              ->capture_default_str());
  defines(verb.add_option("--divergence", options.divergence, "kl, or jsd as AMQ measures")
              ->check(CLI::IsMember({"kl", "jsd"}))
              ->capture_default_str());
  const std::vector<CLI::Option*> before = verb.get_options();
  add_calibration_options(verb, options.calibration, false);
  for (CLI::Option* option : verb.get_options())
    if (std::ranges::find(before, option) == before.end()) defines(option);
}

Run find_run(const RunOptions& options, std::optional<std::uint64_t> budget) {
  const bool defined =
      std::ranges::any_of(options.defining, [](const CLI::Option* o) { return o->count() > 0; });
  if (!defined && has_run(options.folder)) {
    Run run = Run::open(options.folder, Access::write, options.model);
    if (budget) run.linear_budget(*budget);
    return run;
  }
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  const ModelConfig config = parse_model_config(checkpoint.config());
  check_shapes(checkpoint, config);
  BankOptions bank{.menu = options.menu, .method = options.method, .calibration = options.calibration};
  // What judges the result must not have calibrated its codes. Text of the model's own is another one anyway.
  if (!options.calibration.text.empty() && !is_self(options.calibration.text))
    bank.calibration.samples.held_back = options.heldout;
  fs::path bank_folder = options.bank;
  if (options.bank.empty()) {
    const Menu menu = menu_of(bank);
    check_space(options, checkpoint, config, menu, budget);
    bank_folder = fs::path(options.folder) / "bank";
  }
  const std::string model = fingerprint(checkpoint, progress());
  if (options.bank.empty()) {
    std::error_code failure;
    fs::create_directories(options.folder, failure);
    if (failure) throw IoError(fmt::format("{}: cannot be created: {}", options.folder, failure.message()));
    make_bank(checkpoint, config, model, bank, bank_folder);
  }
  const SearchText text = search_text(options, checkpoint, config);
  RunSettings settings;
  settings.model = model;
  settings.text = text_name(options.calibration);
  settings.ties = options.ties;
  settings.pins = options.pins;
  settings.divergence = parse_divergence(options.divergence);
  settings.precision = options.calibration.precision == "fp32" ? Precision::fp32 : Precision::bf16;
  settings.search = {text.search.tokens, text.search.options.window};
  settings.heldout = {text.heldout.tokens, text.heldout.options.window};
  Run run = Run::create(options.folder, options.model, bank_folder, settings);
  if (budget) run.linear_budget(*budget);
  return run;
}

void add_budget_options(CLI::App& verb, BudgetOptions& options) {
  verb.add_option("--budget", options.bytes, "Most bytes of all files, as 4200000, 4.2MiB, 1.5GB");
  verb.add_option("--bits", options.bits, "Budget as average bits per quantized weight, metadata included")
      ->check(CLI::PositiveNumber);
}

std::uint64_t file_budget(const BudgetOptions& options, const SearchSpace& space) {
  if (!options.bytes.empty() == (options.bits > 0)) throw UsageError("give either --budget or --bits");
  if (!options.bytes.empty()) return parse_bytes(options.bytes);
  const double linear = options.bits * static_cast<double>(space.parameters) / 8;
  // Half a weight's bit of room: a budget of exactly a uniform size must hold it in spite of rounding.
  return static_cast<std::uint64_t>(std::floor(linear + 1e-6)) + space.rest_bytes();
}

void add_search_options(CLI::App& verb, SearchOptions& options, bool with_strategy) {
  std::string names;
  for (const StrategyInfo& info : strategies()) names += (names.empty() ? "" : ", ") + std::string(info.name);
  if (with_strategy) verb.add_option("--strategy", options.strategy, names)->capture_default_str();
  verb.add_option("--set", options.set,
                  "A constant of the strategy, as rounds=8; `knapsaq strategies` lists them");
  verb.add_option("--evaluations", options.evaluations,
                  "Most measurements; 0: what the strategy's constants make of it")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40))
      ->capture_default_str();
}

namespace {

OptionValues option_values(const SearchOptions& options) {
  OptionValues values(find_strategy(options.strategy).options);
  for (const std::string& assignment : options.set) values.set(assignment);
  if (options.faithful) values.set("faithful=1");
  return values;
}

}  // namespace

void check_search(const SearchOptions& options) { option_values(options); }

SearchReport run_search(Run& run, Evaluator& evaluator, const SearchOptions& options,
                        std::optional<std::uint64_t> budget) {
  const StrategyInfo& info = find_strategy(options.strategy);
  const OptionValues values = option_values(options);
  StrategySetup setup;
  setup.space = &run.space();
  setup.divergence = run.settings().divergence;
  setup.windows = evaluator.windows();
  setup.seed = options.seed;
  setup.evaluations = options.evaluations;
  if (budget) setup.budget = run.linear_budget(*budget);
  std::unique_ptr<Goal> goal;
  if (!options.goal.empty()) {
    goal = make_goal(options.goal, run.space(), setup.budget, setup.divergence);
    setup.goal = goal.get();
  }
  std::string course = values.to_string();
  if (options.evaluations > 0) course += fmt::format(" evaluations={}", options.evaluations);
  if (setup.budget) course += fmt::format(" budget={}", *setup.budget);
  if (!options.goal.empty()) course += fmt::format(" goal={}", options.goal);
  const std::unique_ptr<Strategy> strategy = info.make(setup, values);
  const SearchRecord record = run.archive().search(options.strategy, course, options.seed);
  run.reference_loss(kSearchSet, &evaluator);
  SearchDisplay display(run.space(), setup.divergence, options.strategy, setup.budget);
  return knapsaq::run_search(*strategy, setup, record, evaluator, run.archive(),
                             [&](const SearchStatus& status) { display.show(status); });
}

}  // namespace knapsaq::command
