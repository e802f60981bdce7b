#include "knapsaq/pipeline/bench.h"

#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/units.h"
#include "result_json.h"
#include "runtime_flags.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  BenchOptions bench;
};

void run(const Options& options) {
  const BenchOptions& how = options.bench;
  Environment environment(environment_options(options.common));
  Session session(environment, options.model);
  const BenchResult result = bench(session, how);

  if (options.common.json) {
    nlohmann::ordered_json json = {
        {"model", options.model},
        {"prompt", how.prompt},
        {"generate", how.generate},
        {"repeats", how.repeats},
        {"threads", environment.threads()},
        {"backend", result.backend},
        {"activations", how.runtime.activations},
        {"cache", how.runtime.cache},
        {"load_seconds", result.load_seconds},
        {"prompt_tokens_per_second", result.prompt_tokens_per_second},
        {"generation_tokens_per_second", result.generation_tokens_per_second},
        {"generation_after_prompt_tokens_per_second", result.generation_after_prompt_tokens_per_second},
        {"first_token_seconds", result.first_token_seconds},
        {"weight_bytes", result.weight_bytes},
        {"dram_bytes_per_second", result.dram_bytes_per_second},
        {"bandwidth_fraction", result.bandwidth_fraction}};
    add_memory(json, result.memory);
    json["cache_bytes"] = result.cache_bytes;
    json["resident_bytes"] = result.resident_bytes;
    json["peak_resident_bytes"] = result.peak_resident_bytes;
    print(json);
    return;
  }
  fmt::print("{}\n", options.model);
  fmt::print("  {}, {} threads, activations {}, cache {}\n", result.backend, environment.threads(),
             how.runtime.activations, how.runtime.cache);
  fmt::print("  loaded in          {}\n", format_seconds(result.load_seconds));
  fmt::print("  prompt             {:.1f} tokens/s ({} tokens); first token after {:.3f} s\n",
             result.prompt_tokens_per_second, how.prompt, result.first_token_seconds);
  fmt::print("  generation         {:.1f} tokens/s ({} tokens); {:.1f} tokens/s after the prompt\n",
             result.generation_tokens_per_second, how.generate,
             result.generation_after_prompt_tokens_per_second);
  fmt::print("  weights per token  {}, {:.1f} GB/s: {:.0f}% of the {:.1f} GB/s that this machine reads\n",
             format_bytes(result.weight_bytes),
             static_cast<double>(result.weight_bytes) * result.generation_tokens_per_second * 1e-9,
             100 * result.bandwidth_fraction, result.dram_bytes_per_second * 1e-9);
  fmt::print("  memory             {}; cache {}; resident {}, at most {}\n", describe(result.memory),
             format_bytes(result.cache_bytes), format_bytes(result.resident_bytes),
             format_bytes(result.peak_resident_bytes));
}

}  // namespace

void add_bench(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("bench", "Measure a model's speed and memory");
  verb.option("model", options->model, "Model: a folder in Hugging Face layout, quantized or not").required();
  verb.option("--prompt", options->bench.prompt, "Tokens of the prompt").range(1).show_default();
  verb.option("--generate", options->bench.generate, "Tokens after it").range(1).show_default();
  verb.option("--repeats", options->bench.repeats, "Times are medians of so many").range(1).show_default();
  add_runtime_flags(verb, options->bench.runtime);
  add_common(verb, options->common);
  verb.example("knapsaq bench MODEL --prompt 512 --generate 128");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
