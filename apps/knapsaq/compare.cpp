#include "knapsaq/pipeline/compare.h"

#include <cmath>
#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "compare_files.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/units.h"
#include "task_flags.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::vector<std::string> models;
  CompareOptions compare;
  std::string reference;  ///< with it, the models are compared as they are
  std::string page;
  std::vector<Option> for_methods;  ///< what only says how a model is quantized and scored
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

void quantize_and_score(const Options& options) {
  Environment environment(environment_options(options.common));
  const std::string& model = options.models.front();
  Session session(environment, model, Session::Weights::decoded);
  const CompareOptions& compare = options.compare;
  if (!options.common.json) {
    knapsaq::compare(session, compare, print_header, print_row);
    return;
  }
  const CompareResult result = knapsaq::compare(session, compare);
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const CaseResult& one : result.cases) rows.push_back(json_of(one, result.tasks));
  print({{"model", model},
         {"text", compare.text},
         {"protocol", compare.protocol},
         {"window", result.window},
         {"text_tokens", result.text_tokens},
         {"precision", compare.calibration.precision},
         {"cases", rows}});
}

void run(const Options& options) {
  if (options.reference.empty()) {
    if (options.models.size() > 1)
      throw UsageError(
          "several models are compared by the one that they were made from: give --reference MODEL");
    if (!options.page.empty()) throw UsageError("--page is for models that are compared by --reference");
    if (options.compare.calibration.precision == "int8")
      throw UsageError("--precision int8 is for models that are compared by --reference");
    quantize_and_score(options);
    return;
  }
  for (const Option& option : options.for_methods)
    if (option.given())
      throw UsageError(option.name() +
                       " is for one model that is quantized in many ways, without --reference");
  compare_files(options.common, {.files = options.models,
                                 .reference = options.reference,
                                 .text = options.compare.text,
                                 .protocol = options.compare.protocol,
                                 .windows = options.compare.windows,
                                 .precision = options.compare.calibration.precision,
                                 .output = options.compare.output,
                                 .page = options.page});
}

}  // namespace

void add_compare(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb =
      app.add("compare", "Judge files by the model that they were made from, or quantize one in many ways");
  verb.option("models", options->models,
              "GGUF files and folders to judge by --reference; without it, one folder in full precision to "
              "quantize")
      .required();
  verb.option("--reference", options->reference,
              "The full-precision model: compare the models as they are, by its predictions")
      .not_empty();
  verb.option("--text", options->compare.text, "Text file (UTF-8), or C4's documents as .jsonl, to score")
      .required();
  verb.option("-o,--output", options->compare.output,
              "CSV that gets a row per finished case; a run that was stopped goes on with it")
      .not_empty();
  verb.option("--page", options->page,
              "With --reference: HTML page with the table and a plot of KL against bytes")
      .not_empty();
  verb.option("--protocol", options->compare.protocol, "gptq, stride or llama; see docs/commands.md")
      .show_default();
  verb.option("--window", options->compare.windows.window, "Tokens in a window that is scored").range(0);
  verb.option("--windows", options->compare.windows.limit, "Score the first N windows only; 0: all").range(0);
  verb.option("--precision", options->compare.calibration.precision,
              "Arithmetic of the forward pass: bf16, fp32, or int8 for inputs rounded as llama.cpp does")
      .one_of({"bf16", "fp32", "int8"})
      .show_default();
  const std::size_t common_options = verb.options().size();
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
  verb.option("--stride", options->compare.windows.stride, "Tokens between windows of protocol stride")
      .range(0);
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
  const std::vector<Option> all = verb.options();
  options->for_methods.assign(all.begin() + static_cast<std::ptrdiff_t>(common_options), all.end());
  add_common(verb, options->common);
  verb.example(
      "knapsaq compare A.gguf B.gguf OUT --reference MODEL --text wiki.test.raw --page page.html\n"
      "  knapsaq compare MODEL --text wiki.test.raw -o compare.csv");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
