#include "generation.h"

#include <cstdio>

#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "command.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/memory.h"
#include "knapsaq/base/units.h"

namespace knapsaq::command {

void add_generation_options(Verb verb, GenerationFlags& flags, std::int64_t max_tokens) {
  flags.max_tokens = max_tokens;
  verb.option("--max-tokens", flags.max_tokens, "Stop after so many tokens").range(1).show_default();
  verb.option("--temperature", flags.sampler.temperature,
              "0: always the most likely token; 1: the model's own distribution")
      .show_default();
  verb.option("--top-k", flags.sampler.top_k, "Draw from the K most likely tokens only; 0: from all")
      .range(0)
      .show_default();
  verb.option("--top-p", flags.sampler.top_p,
              "Draw from the fewest most likely tokens that have this probability together")
      .show_default();
  verb.option("--seed", flags.sampler.seed, "The same seed gives the same text").range(0).show_default();
  add_runtime_options(verb, flags.runtime);
}

TextModel::TextModel(const std::string& path, const GenerationFlags& flags)
    : runtime_(flags.runtime),
      checkpoint_(Checkpoint::open(path)),
      config_(model_config(checkpoint_)),
      tokenizer_(Tokenizer::load(path)),
      context_limit_(knapsaq::context_limit(config_, flags.runtime.context)) {
  check(flags.sampler);
  options_.sampler = flags.sampler;
  options_.max_tokens = flags.max_tokens;
  options_.stop = stop_tokens(checkpoint_, tokenizer_.eos());
  options_.vocabulary = tokenizer_.vocabulary_size();
}

void TextModel::load(std::int64_t context) {
  // Weights take about what they take in the file.
  const std::uint64_t weights = checkpoint_.tensor_bytes();
  auto available = available_memory();
  if (available && weights > *available)
    throw InputError(fmt::format("the weights need about {} of memory, and {} are free: take a smaller model",
                                 format_bytes(weights), format_bytes(*available)));
  if (available) *available -= weights;
  check_cache_memory(config_, cache_element(runtime_), 1, context, available);
  backend_ = make_runtime_backend(runtime_);
  decoder_.emplace(Decoder::load(checkpoint_, config_, *backend_, progress()));
  generator_.emplace(*decoder_, context, cache_element(runtime_));
}

std::optional<double> prompt_speed(const Generated& generated) {
  if (generated.prompt_tokens == 0 || generated.prompt_seconds <= 0) return std::nullopt;
  return static_cast<double>(generated.prompt_tokens) / generated.prompt_seconds;
}

std::optional<double> step_speed(const Generated& generated) {
  if (generated.steps == 0 || generated.step_seconds <= 0) return std::nullopt;
  return static_cast<double>(generated.steps) / generated.step_seconds;
}

void show_speed(const Generated& generated) {
  if (::isatty(STDERR_FILENO) == 0) return;
  const auto rate = [](std::optional<double> speed) {
    return speed ? fmt::format("{:.1f} tokens/s", *speed) : std::string("-");
  };
  fmt::print(stderr, "[prompt {} tokens, {}; text {} tokens, {}; {}]\n",
             generated.prompt_tokens + generated.reused_tokens, rate(prompt_speed(generated)),
             generated.tokens.size(), rate(step_speed(generated)), name_of(generated.reason));
}

void put(const std::string& text) {
  if (text.empty()) return;
  std::fwrite(text.data(), 1, text.size(), stdout);
  flush_output();
}

}  // namespace knapsaq::command
