#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/memory.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/base/units.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/eval/evaluation_text.h"
#include "knapsaq/eval/perplexity.h"
#include "knapsaq/model/config.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/report/task_scores.h"
#include "knapsaq/search/run.h"
#include "knapsaq/text/tokenizer.h"
#include "memory_json.h"
#include "task_options.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  std::string text;
  std::string protocol = "gptq";
  WindowOptions windows;
  std::string precision = "bf16";
  TaskOptions tasks;
  std::string samples;
  std::string run;
};

/// Puts the scores where `report` finds them.
void keep(const Options& options, const Checkpoint& checkpoint, const ModelConfig& config,
          const TaskSet& tasks, std::span<const TaskResult> results) {
  const std::filesystem::path folder =
      std::filesystem::absolute(options.model).lexically_normal();  // also of "models/llama/"
  TaskScores scores{.model = (folder.has_filename() ? folder : folder.parent_path()).filename().string(),
                    .bytes = checkpoint.tensor_bytes(),
                    .bits = linear_bits(checkpoint, config),
                    .precision = options.precision,
                    .data = tasks.hash(),
                    .tasks = {},
                    .average = average(results)};
  for (const TaskResult& result : results)
    scores.tasks.push_back({result.task, result.items.size(), result.acc, result.acc_norm});
  keep_task_scores(scores, options.run, options.model);
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void run(const Options& options) {
  start(options.common);
  if (options.text.empty() && options.tasks.names.empty())
    throw UsageError("there is nothing to do: give --text, --tasks or both");
  if (!options.samples.empty() && options.tasks.names.empty())
    throw UsageError("--samples writes what the items of --tasks got: name tasks");
  OutputPlan plan;
  plan.reads("the model", options.model);
  plan.reads("the text", options.text);
  plan.reads("the tasks", options.tasks.data);
  plan.reads("the run", options.run);
  std::filesystem::path samples;
  if (!options.samples.empty()) samples = plan.file(options.samples, true, are_samples);
  if (!options.run.empty()) {
    if (options.tasks.names.empty()) throw UsageError("--run keeps what --tasks found: name tasks");
    if (!has_run(options.run))
      throw UsageError(options.run + ": holds no run; give the folder that search or fit worked in");
  }
  WindowOptions requested = options.windows;
  requested.protocol = parse_protocol(options.protocol);

  const Checkpoint checkpoint = Checkpoint::open(options.model);
  const ModelConfig config = model_config(checkpoint);
  const WindowOptions windows = resolve(requested, config.max_positions);
  const Tokenizer tokenizer = Tokenizer::load(options.model);
  // What is wrong with texts and tasks is said before the model is loaded.
  std::vector<std::int32_t> tokens;
  if (!options.text.empty()) {
    tokens = read_evaluation_text(options.text, tokenizer, windows).tokens;
    plan_windows(std::ssize(tokens), windows);
  }
  const TaskSet tasks = read_tasks(options.tasks, tokenizer, config);

  const auto backend = make_cpu_backend(options.precision == "fp32" ? Precision::fp32 : Precision::bf16);
  Decoder decoder = Decoder::load(checkpoint, config, *backend, progress());
  nlohmann::ordered_json json = {{"model", options.model}};

  if (!options.text.empty()) {
    const auto begin = std::chrono::steady_clock::now();
    const Perplexity result = perplexity(
        tokens, windows, tokenizer.adds_bos() ? tokenizer.bos() : std::nullopt,
        [&](std::span<const std::int32_t> batch, std::int64_t count, std::int64_t length,
            std::span<float> out) { decoder.losses(batch, count, length, out); },
        progress());
    const double seconds = seconds_since(begin);
    json.update({{"text", options.text},
                 {"protocol", name_of(windows.protocol)},
                 {"window", windows.window},
                 {"precision", options.precision},
                 {"perplexity", result.perplexity},
                 {"nll", result.nll},
                 {"nll_standard_error", result.standard_error},
                 {"tokens", result.tokens},
                 {"windows", result.windows},
                 {"seconds", seconds}});
    if (windows.protocol == Protocol::stride) json["stride"] = windows.stride;
    if (!options.common.json)
      fmt::print(
          "perplexity {:.4f}   nll {:.5f} +- {:.5f}   {} tokens in {} windows of {}, protocol {}, {}, {}\n",
          result.perplexity, result.nll, result.standard_error, result.tokens, result.windows, windows.window,
          name_of(windows.protocol), options.precision, format_seconds(seconds));
  }
  if (!tasks.empty()) {
    const auto begin = std::chrono::steady_clock::now();
    const std::vector<TaskResult> results = judge(tasks, decoder);
    const double seconds = seconds_since(begin);
    if (!options.samples.empty()) write_samples(results, samples);
    if (!options.run.empty()) keep(options, checkpoint, config, tasks, results);
    json["precision"] = options.precision;
    json.update(json_of(results));
    json["items_per_second"] = static_cast<double>(tasks.items()) / seconds;
    if (!options.common.json) {
      print(results);
      fmt::print("{} items in {}, {:.1f} a second, {}\n", tasks.items(), format_seconds(seconds),
                 static_cast<double>(tasks.items()) / seconds, options.precision);
    }
  }
  add_memory(json, decoder.memory());
  json["peak_resident_bytes"] = peak_resident_memory();
  if (options.common.json) {
    print(json);
  } else {
    fmt::print("memory: {}; resident at most {}\n", describe(decoder.memory()),
               format_bytes(peak_resident_memory()));
  }
}

}  // namespace

void add_eval(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("eval", "Measure a model's perplexity on a text, and its answers to tasks");
  verb.option("model", options->model, "Model folder in Hugging Face layout, quantized or not, or GGUF file")
      .required();
  verb.option("--text", options->text, "Text file (UTF-8), or C4's documents as .jsonl");
  verb.option("--protocol", options->protocol, "gptq, stride or llama; see docs/commands.md").show_default();
  verb.option("--window", options->windows.window,
              "Tokens in a window; default: gptq 2048, stride 1024, llama 512")
      .range(0);
  verb.option("--stride", options->windows.stride,
              "Tokens between windows of protocol stride; default: half a window")
      .range(0);
  verb.option("--windows", options->windows.limit, "Score the first N windows only; 0: all").range(0);
  verb.option("--precision", options->precision, "Arithmetic of the forward pass: bf16 or fp32")
      .one_of({"bf16", "fp32"})
      .show_default();
  add_task_options(verb, options->tasks);
  verb.option("--samples", options->samples, "JSONL file that gets a line for every item of the tasks")
      .not_empty();
  verb.option("--run", options->run, "A run's folder whose report is to show what the tasks found")
      .not_empty();
  add_common(verb, options->common);
  verb.example(
      "knapsaq eval MODEL --text wiki.test.raw --protocol gptq --window 512\n"
      "  knapsaq eval MODEL --tasks all --data FOLDER");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
