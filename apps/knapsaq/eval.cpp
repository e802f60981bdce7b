#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/units.h"
#include "knapsaq/pipeline/evaluate.h"
#include "result_json.h"
#include "task_flags.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  EvaluateOptions evaluate;
};

double rate(const EvaluateResult::Tasks& tasks) { return static_cast<double>(tasks.items) / tasks.seconds; }

nlohmann::ordered_json json_of(const EvaluateResult& result, const Options& options) {
  const EvaluateOptions& how = options.evaluate;
  nlohmann::ordered_json json = {{"model", options.model}};
  if (result.text) {
    const EvaluateResult::Text& text = *result.text;
    json.update({{"text", how.text},
                 {"protocol", name_of(text.how.protocol)},
                 {"window", text.how.window},
                 {"precision", how.precision},
                 {"perplexity", text.perplexity},
                 {"nll", text.nll},
                 {"nll_standard_error", text.standard_error},
                 {"tokens", text.tokens},
                 {"windows", text.windows},
                 {"seconds", text.seconds}});
    if (text.how.protocol == Protocol::stride) json["stride"] = text.how.stride;
    if (text.reference)
      json["reference"] = {{"model", how.reference},
                           {"perplexity", text.reference->perplexity},
                           {"kl", command::json_of(text.reference->kl)},
                           {"flips", text.reference->flips}};
  }
  if (result.tasks) {
    json["precision"] = how.precision;
    json.update(command::json_of(*result.tasks));
    json["items_per_second"] = rate(*result.tasks);
  }
  add_memory(json, result.memory);
  json["peak_resident_bytes"] = result.peak_resident_bytes;
  return json;
}

void run(const Options& options) {
  Environment environment(environment_options(options.common));
  Session session(environment, options.model);
  const EvaluateResult result = evaluate(session, options.evaluate);
  if (options.common.json) {
    print(json_of(result, options));
    return;
  }
  if (result.text) {
    const EvaluateResult::Text& text = *result.text;
    fmt::print(
        "perplexity {:.4f}   nll {:.5f} +- {:.5f}   {} tokens in {} windows of {}, protocol {}, {}, {}\n",
        text.perplexity, text.nll, text.standard_error, text.tokens, text.windows, text.how.window,
        name_of(text.how.protocol), options.evaluate.precision, format_seconds(text.seconds));
    if (text.reference) {
      const EvaluateResult::Text::Reference& found = *text.reference;
      fmt::print("KL {:.6f} +- {:.6f}   median {:.6f}, 99 % {:.5f}, 99.9 % {:.5f}, largest {:.4f}\n",
                 found.kl.mean, found.kl.standard_error, found.kl.median, found.kl.quantile_99,
                 found.kl.quantile_99_9, found.kl.largest);
      fmt::print("another most likely token {:.3f} %   perplexity of {} {:.4f}\n", 100 * found.flips,
                 options.evaluate.reference, found.perplexity);
    }
  }
  if (result.tasks) {
    print(*result.tasks);
    fmt::print("{} items in {}, {:.1f} a second, {}\n", result.tasks->items,
               format_seconds(result.tasks->seconds), rate(*result.tasks), options.evaluate.precision);
  }
  fmt::print("memory: {}; resident at most {}\n", describe(result.memory),
             format_bytes(result.peak_resident_bytes));
}

}  // namespace

void add_eval(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("eval", "Measure a model's perplexity on a text, and its answers to tasks");
  verb.option("model", options->model, "Model folder in Hugging Face layout, quantized or not, or GGUF file")
      .required();
  verb.option("--text", options->evaluate.text, "Text file (UTF-8), or C4's documents as .jsonl");
  verb.option("--reference", options->evaluate.reference,
              "The full-precision model: how far the model's predictions of the text are from its")
      .not_empty();
  verb.option("--protocol", options->evaluate.protocol, "gptq, stride or llama; see docs/commands.md")
      .show_default();
  verb.option("--window", options->evaluate.windows.window,
              "Tokens in a window; default: gptq 2048, stride 1024, llama 512")
      .range(0);
  verb.option("--stride", options->evaluate.windows.stride,
              "Tokens between windows of protocol stride; default: half a window")
      .range(0);
  verb.option("--windows", options->evaluate.windows.limit, "Score the first N windows only; 0: all")
      .range(0);
  verb.option("--precision", options->evaluate.precision,
              "Arithmetic of the forward pass: bf16, fp32, or int8 for inputs rounded as llama.cpp does")
      .one_of({"bf16", "fp32", "int8"})
      .show_default();
  add_task_flags(verb, options->evaluate.tasks);
  verb.option("--items", options->evaluate.items, "JSONL file that gets a line for every item of the tasks")
      .not_empty();
  verb.option("--run", options->evaluate.run, "A run's folder whose report is to show what the tasks found")
      .not_empty();
  add_common(verb, options->common);
  verb.example(
      "knapsaq eval MODEL --text wiki.test.raw --protocol gptq --window 512\n"
      "  knapsaq eval A.gguf --text wiki.test.raw --reference MODEL\n"
      "  knapsaq eval MODEL --tasks all --data FOLDER");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
