#include "runtime_flags.h"

#include <optional>
#include <string>

#include <fmt/core.h>
#include <unistd.h>

namespace knapsaq::command {

void add_runtime_flags(Verb verb, RuntimeOptions& options) {
  verb.option("--activations", options.activations,
              "What packed weights are multiplied by: int8 (fastest), bf16, or fp32 (exact)")
      .one_of({"int8", "bf16", "fp32"})
      .show_default();
  verb.option("--cache", options.cache, "Keys and values of the tokens so far: fp16 or int8")
      .one_of({"fp16", "int8"})
      .show_default();
  verb.option("--context", options.context, "Tokens that the cache has room for; default: what is needed")
      .range(0);
}

void add_generate_flags(Verb verb, GenerateOptions& options, std::int64_t max_tokens) {
  options.max_tokens = max_tokens;
  verb.option("--max-tokens", options.max_tokens, "Stop after so many tokens").range(1).show_default();
  verb.option("--temperature", options.temperature,
              "0: always the most likely token; 1: the model's own distribution")
      .show_default();
  verb.option("--top-k", options.top_k, "Draw from the K most likely tokens only; 0: from all")
      .range(0)
      .show_default();
  verb.option("--top-p", options.top_p,
              "Draw from the fewest most likely tokens that have this probability together")
      .show_default();
  verb.option("--seed", options.seed, "The same seed gives the same text").range(0).show_default();
}

void show_speed(const GeneratedText& generated) {
  if (::isatty(STDERR_FILENO) == 0) return;
  const auto rate = [](std::optional<double> speed) {
    return speed ? fmt::format("{:.1f} tokens/s", *speed) : std::string("-");
  };
  fmt::print(stderr, "[prompt {} tokens, {}; text {} tokens, {}; {}]\n", generated.prompt_tokens,
             rate(generated.prompt_tokens_per_second), generated.tokens.size(),
             rate(generated.generation_tokens_per_second), generated.reason);
}

}  // namespace knapsaq::command
