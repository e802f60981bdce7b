#include <chrono>
#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/base/units.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/eval/speed.h"
#include "knapsaq/model/config.h"
#include "memory_json.h"
#include "runtime_options.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  RuntimeOptions runtime;
  SpeedOptions speed;
};

void run(Options options) {
  start(options.common);
  options.speed.cache = cache_element(options.runtime);
  options.speed.context = options.runtime.context;
  const auto begin = std::chrono::steady_clock::now();
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  const ModelConfig config = model_config(checkpoint);
  check(options.speed, config);
  const auto backend = make_runtime_backend(options.runtime);
  Decoder decoder = Decoder::load(checkpoint, config, *backend, progress());
  const double load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const Speed speed = measure_speed(decoder, options.speed, progress());

  const double prompt_rate = static_cast<double>(options.speed.prompt) / speed.prompt_seconds;
  const double generation_rate = static_cast<double>(options.speed.generate) / speed.generation_seconds;
  const double after_prompt_rate = static_cast<double>(options.speed.generate) / speed.after_prompt_seconds;
  const std::uint64_t read = speed.memory.read_per_token();
  const double fraction = static_cast<double>(read) * generation_rate / speed.dram_bytes_per_second;

  if (options.common.json) {
    nlohmann::ordered_json json = {{"model", options.model},
                                   {"prompt", options.speed.prompt},
                                   {"generate", options.speed.generate},
                                   {"repeats", options.speed.repeats},
                                   {"threads", default_pool().size()},
                                   {"backend", backend->description()},
                                   {"activations", options.runtime.activations},
                                   {"cache", options.runtime.cache},
                                   {"load_seconds", load_seconds},
                                   {"prompt_tokens_per_second", prompt_rate},
                                   {"generation_tokens_per_second", generation_rate},
                                   {"generation_after_prompt_tokens_per_second", after_prompt_rate},
                                   {"first_token_seconds", speed.prompt_seconds},
                                   {"weight_bytes", read},
                                   {"dram_bytes_per_second", speed.dram_bytes_per_second},
                                   {"bandwidth_fraction", fraction}};
    add_memory(json, speed.memory);
    json["cache_bytes"] = speed.cache_bytes;
    json["resident_bytes"] = speed.resident_bytes;
    json["peak_resident_bytes"] = speed.peak_resident_bytes;
    print(json);
    return;
  }
  fmt::print("{}\n", options.model);
  fmt::print("  {}, {} threads, activations {}, cache {}\n", backend->description(), default_pool().size(),
             options.runtime.activations, options.runtime.cache);
  fmt::print("  loaded in          {}\n", format_seconds(load_seconds));
  fmt::print("  prompt             {:.1f} tokens/s ({} tokens); first token after {:.3f} s\n", prompt_rate,
             options.speed.prompt, speed.prompt_seconds);
  fmt::print("  generation         {:.1f} tokens/s ({} tokens); {:.1f} tokens/s after the prompt\n",
             generation_rate, options.speed.generate, after_prompt_rate);
  fmt::print("  weights per token  {}, {:.1f} GB/s: {:.0f}% of the {:.1f} GB/s that this machine reads\n",
             format_bytes(read), static_cast<double>(read) * generation_rate * 1e-9, 100 * fraction,
             speed.dram_bytes_per_second * 1e-9);
  fmt::print("  memory             {}; cache {}; resident {}, at most {}\n", describe(speed.memory),
             format_bytes(speed.cache_bytes), format_bytes(speed.resident_bytes),
             format_bytes(speed.peak_resident_bytes));
}

}  // namespace

void add_bench(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("bench", "Measure a model's speed and memory");
  verb.option("model", options->model, "Model: a folder in Hugging Face layout, quantized or not").required();
  verb.option("--prompt", options->speed.prompt, "Tokens of the prompt").range(1).show_default();
  verb.option("--generate", options->speed.generate, "Tokens after it").range(1).show_default();
  verb.option("--repeats", options->speed.repeats, "Times are medians of so many").range(1).show_default();
  add_runtime_options(verb, options->runtime);
  add_common(verb, options->common);
  verb.example("knapsaq bench MODEL --prompt 512 --generate 128");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
