#include "knapsaq/pipeline/compare.h"

#include <cmath>
#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/units.h"
#include "task_flags.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  CompareOptions compare;
};

nlohmann::ordered_json json_of(const CaseResult& one, const std::vector<std::string>& tasks) {
  nlohmann::ordered_json json = {{"method", one.method},
                                 {"configuration", one.configuration},
                                 {"bits", one.bits},
                                 {"bytes", one.bytes},
                                 {"memory_bytes", one.memory},
                                 {"perplexity", one.perplexity},
                                 {"quantize_seconds", one.quantize_seconds}};
  if (tasks.empty()) return json;
  for (std::size_t i = 0; i < tasks.size(); ++i) json["tasks"][tasks[i]] = one.tasks[i];
  json["average"] = one.average;
  return json;
}

void print_header(const std::vector<std::string>& tasks) {
  fmt::print("{:<10} {:<14} {:>8} {:>12} {:>12} {:>12} {:>10}{}\n", "method", "configuration", "bits",
             "bytes", "in memory", "perplexity", "quantized", tasks.empty() ? "" : "   tasks");
}

void print_row(const CaseResult& one) {
  const bool finite = std::isfinite(one.perplexity);
  fmt::print("{:<10} {:<14} {:>8.4f} {:>12} {:>12} {:>12} {:>10}{}\n", one.method, one.configuration,
             one.bits, one.bytes, format_bytes(one.memory),
             finite ? fmt::format("{:.4f}", one.perplexity) : "not finite",
             one.method == "none" ? "" : format_seconds(one.quantize_seconds),
             one.tasks.empty() || !finite ? "" : fmt::format("  {:.4f}", one.average));
  if (!one.broken.empty()) fmt::print("  {}\n", one.broken);
  flush_output();  // a row that is finished is seen, also through a pipe
}

void run(const Options& options) {
  Environment environment(environment_options(options.common));
  Session session(environment, options.model, Session::Accepts::folder);
  const CompareOptions& compare = options.compare;
  if (!options.common.json) {
    knapsaq::compare(session, compare, print_header, print_row);
    return;
  }
  const CompareResult result = knapsaq::compare(session, compare);
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const CaseResult& one : result.cases) rows.push_back(json_of(one, result.tasks));
  print({{"model", options.model},
         {"text", compare.text},
         {"protocol", compare.protocol},
         {"window", result.window},
         {"text_tokens", result.text_tokens},
         {"precision", compare.calibration.precision},
         {"cases", rows}});
}

}  // namespace

void add_compare(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("compare", "Quantize a model in many ways and score each of them");
  verb.option("model", options->model, "Model folder in Hugging Face layout, full precision").required();
  verb.option("--text", options->compare.text, "Text file (UTF-8), or C4's documents as .jsonl, to score")
      .required();
  verb.option("-o,--output", options->compare.output,
              "CSV that gets a row per finished case; a run that was stopped goes on with it")
      .not_empty();
  verb.option("--methods", options->compare.methods, "Methods, with commas; mxq allocates within --budgets")
      .separated_by(',')
      .show_default();
  verb.option("--configurations", options->compare.configurations,
              "Schemes without their method, with commas: what every uniform method is tried with")
      .separated_by(',')
      .show_default();
  verb.option("--budgets", options->compare.budgets,
              "Bits per weight for mxq: a list with commas, or FIRST:LAST:STEP")
      .show_default();
  verb.option("--menu", options->compare.menu, "Schemes that mxq chooses from: mxq, mxq-f16, gguf or a list")
      .show_default();
  verb.option("--protocol", options->compare.protocol, "gptq, stride or llama; see docs/commands.md")
      .show_default();
  verb.option("--window", options->compare.windows.window, "Tokens in a window that is scored").range(0);
  verb.option("--stride", options->compare.windows.stride, "Tokens between windows of protocol stride")
      .range(0);
  verb.option("--windows", options->compare.windows.limit, "Score the first N windows only; 0: all").range(0);
  add_task_flags(verb, options->compare.tasks);
  verb.option("--calibration-text", options->compare.calibration.text,
              "Texts for gptq and awq, or self (the default) for text that the model itself samples");
  verb.option("--samples", options->compare.calibration.samples.samples, "Windows to calibrate on")
      .range(0)
      .show_default();
  verb.option("--calibration-window", options->compare.calibration.samples.window,
              "Tokens in each; default: 2048 (self: 512), or what the model can see if that is less")
      .range(0);
  verb.option("--seed", options->compare.calibration.samples.seed, "Which windows").range(0).show_default();
  verb.option("--precision", options->compare.calibration.precision,
              "Arithmetic of the forward pass: bf16 or fp32")
      .one_of({"bf16", "fp32"})
      .show_default();
  add_common(verb, options->common);
  verb.example("knapsaq compare MODEL --text wiki.test.raw -o compare.csv");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
