#include "run_flags.h"

#include <algorithm>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "calibration_flags.h"
#include "command.h"
#include "knapsaq/export/engine.h"
#include "knapsaq/search/strategy.h"

namespace knapsaq::command {

void add_run_flags(Verb verb, RunFlags& flags) {
  RunOptions& options = flags.options;
  const auto defines = [&](Option option) { flags.defining.push_back(option); };
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
                      "Use a bank made by `knapsaq bank`; default: one in the run's folder"));
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
  add_calibration_flags(verb, options.calibration, false, "--text-seed");
  for (Option option : verb.options())
    if (std::ranges::find(before, option) == before.end()) defines(option);
}

RunOptions run_options(const RunFlags& flags) {
  RunOptions options = flags.options;
  options.any_run = std::ranges::none_of(flags.defining, [](Option option) { return option.given(); });
  return options;
}

void add_strategy_flags(Verb verb, StrategyOptions& options) {
  std::string names;
  for (const StrategyInfo& info : strategies()) names += (names.empty() ? "" : ", ") + std::string(info.name);
  verb.option("--strategy", options.strategy, names).show_default();
  verb.option("--set", options.set,
              "A constant of the strategy, as rounds=8; `knapsaq strategies` lists them");
  verb.option("--seed", options.seed, "Seed of the search").range(0).show_default();
  verb.option("--evaluations", options.evaluations,
              "Most measurements; 0: what the strategy's constants make of it")
      .range(0, std::int64_t{1} << 40)
      .show_default();
}

}  // namespace knapsaq::command
