#include "knapsaq/pipeline/tune.h"

#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/units.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string quantized;
  std::string model;
  TuneOptions tune;
};

nlohmann::ordered_json json_of(const TuneResult::Text& text) {
  const auto of = [](const TuneMeasurement& one) -> nlohmann::ordered_json {
    return {{"kl", one.kl}, {"perplexity", one.perplexity}, {"agreement", one.agreement}};
  };
  return {{"tokens", text.tokens}, {"before", of(text.before)}, {"after", of(text.after)}};
}

nlohmann::ordered_json json_of(const TuneResult& result, const Options& options) {
  nlohmann::ordered_json json = {{"quantized", options.quantized},
                                 {"model", options.model},
                                 {"output", options.tune.output},
                                 {"bytes", result.bytes},
                                 {"parameters", result.parameters},
                                 {"steps", result.steps},
                                 {"best_step", result.best_step},
                                 {"train", json_of(result.train)},
                                 {"heldout", json_of(result.heldout)},
                                 {"foreign", nullptr},
                                 {"seconds_per_step", result.seconds_per_step},
                                 {"seconds", result.seconds},
                                 {"peak_resident_bytes", result.peak_resident_bytes}};
  if (result.foreign) json["foreign"] = json_of(*result.foreign);
  return json;
}

void print_text(const char* name, const TuneResult::Text& text) {
  fmt::print("{:<9} {:>8}   {:.5f}   {:.5f}   {:>8.3f}   {:>8.3f}\n", name, text.tokens, text.before.kl,
             text.after.kl, text.before.perplexity, text.after.perplexity);
}

void run(const Options& options) {
  Environment environment(environment_options(options.common));
  Session quantized(environment, options.quantized);
  Session full(environment, options.model, Session::Weights::decoded);
  const TuneResult result = tune(quantized, full, options.tune);
  if (options.common.json) {
    print(json_of(result, options));
    return;
  }
  fmt::print("              tokens   KL        tuned     perplexity  tuned\n");
  print_text("train", result.train);
  print_text("held out", result.heldout);
  if (result.foreign) print_text("foreign", *result.foreign);
  fmt::print("{}: {} ({} bytes), {} numbers tuned, {}, {}\n", options.tune.output, format_bytes(result.bytes),
             result.bytes, result.parameters,
             result.best_step == 0 ? fmt::format("none of {} steps was better than no step", result.steps)
                                   : fmt::format("best of {} steps: {}", result.steps, result.best_step),
             format_seconds(result.seconds));
}

}  // namespace

void add_tune(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb =
      app.add("tune", "Tune a quantized model's scales by the full model: better at the same bytes");
  verb.option("quantized", options->quantized,
              "Folder that `knapsaq fit`, `pick`, `quantize` or `tune` wrote, or a GGUF file")
      .required();
  verb.option("--model", options->model, "The full-precision model that it was made from").required();
  verb.option("-o,--output", options->tune.output,
              "Folder to write; a killed run goes on where it was when it is repeated")
      .required();
  verb.option(
      "--text", options->tune.text,
      "Text to tune on: files (plain UTF-8, or JSONL with a field text, .jsonl), or the word self (the "
      "default) for text that the full model samples");
  verb.option("--foreign", options->tune.foreign,
              "Text that is measured before and after and not tuned on, as wiki.test.raw");
  verb.option("--steps", options->tune.steps, "Steps of Adam at most").range(1).show_default();
  verb.option("--batch", options->tune.batch, "Windows in a step").range(1).show_default();
  verb.option("--window", options->tune.window,
              "Tokens in a window; default: 512, or what the model can see if that is less")
      .range(0);
  verb.option("--heldout", options->tune.heldout, "Tokens that decide which step is written")
      .range(2)
      .show_default();
  verb.option("--rate", options->tune.rate,
              "Learning rate at the first step, for codes of 2 bits; half of it for each bit more")
      .positive()
      .show_default();
  verb.option("--seed", options->tune.seed, "Seed of the text").range(0).show_default();
  verb.option("--precision", options->tune.precision, "Arithmetic of the passes: bf16 or fp32")
      .one_of({"bf16", "fp32"})
      .show_default();
  verb.flag("--force", options->tune.force, "Replace the output folder if it exists");
  add_common(verb, options->common);
  verb.example("knapsaq tune OUT --model MODEL -o OUT2 --foreign wiki.test.raw");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
