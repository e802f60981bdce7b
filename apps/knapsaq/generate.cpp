#include <algorithm>
#include <cstdio>
#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "generation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/text/corpus.h"
#include "knapsaq/text/text_stream.h"
#include "terminal_input.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  std::string prompt;
  std::string prompt_file;
  bool prompt_given = false;  ///< an empty text is one, too
  GenerationFlags flags;
};

std::string prompt_of(const Options& options) {
  if (options.prompt_given) return to_text(options.prompt, "--prompt", "");
  if (options.prompt_file == "-") return to_text(read_standard_input(), "standard input", "");
  // What the tokenizer takes at once.
  constexpr std::uint64_t kLongest = (std::uint64_t{1} << 31) - 1;
  return read_utf8_file(options.prompt_file, kLongest);
}

std::vector<std::int32_t> prompt_tokens(const Tokenizer& tokenizer, const std::string& prompt) {
  std::vector<std::int32_t> tokens = tokenizer.encode(prompt);
  if (tokens.empty() && tokenizer.bos()) tokens = {*tokenizer.bos()};
  if (tokens.empty())
    throw InputError("the prompt is empty, and this model has no token that begins a text; give a prompt");
  return tokens;
}

void run(const Options& options) {
  start(options.common);
  if (options.prompt_given != options.prompt_file.empty())
    throw UsageError("give either --prompt TEXT or --prompt-file FILE");
  TextModel model(options.model, options.flags);
  const std::vector<std::int32_t> prompt = prompt_tokens(model.tokenizer(), prompt_of(options));
  const auto length = static_cast<std::int64_t>(prompt.size());
  check_prompt(length, model.context_limit());
  // As much as was asked for, or as can be used.
  const std::int64_t room = model.context_limit() - length;
  const std::int64_t context = options.flags.runtime.context > 0
                                   ? options.flags.runtime.context
                                   : length + std::min(room, options.flags.max_tokens);
  model.load(context);

  TextStream stream(model.tokenizer());
  stream.begin_after(prompt);
  std::string text;
  const auto show = [&](const std::string& piece) {
    if (options.common.json)
      text += piece;
    else
      put(piece);
  };
  const Generated result = model.generator().generate(prompt, model.options(),
                                                      [&](std::int32_t token) { show(stream.add(token)); });
  show(stream.finish());

  if (options.common.json) {
    const auto speed = [](std::optional<double> value) {
      return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
    };
    print({{"model", options.model},
           {"prompt_tokens", length},
           {"text", text},
           {"tokens", result.tokens},
           {"reason", name_of(result.reason)},
           {"temperature", options.flags.sampler.temperature},
           {"top_k", options.flags.sampler.top_k},
           {"top_p", options.flags.sampler.top_p},
           {"seed", options.flags.sampler.seed},
           {"context", context},
           {"activations", options.flags.runtime.activations},
           {"cache", options.flags.runtime.cache},
           {"prompt_tokens_per_second", speed(prompt_speed(result))},
           {"generation_tokens_per_second", speed(step_speed(result))},
           {"first_token_seconds", result.prompt_seconds}});
  } else {
    put("\n");
    show_speed(result);
  }
  if (result.reason == StopReason::interrupted) throw Cancelled();
}

}  // namespace

void add_generate(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("generate", "Continue a text with a model");
  verb.option("model", options->model, "Model folder in Hugging Face layout, quantized or not, or GGUF file")
      .required();
  const Option prompt =
      verb.option("--prompt", options->prompt, "The text to continue; it is not printed again");
  verb.option("--prompt-file", options->prompt_file, "Read the text from a file; -: standard input");
  add_generation_options(verb, options->flags, 128);
  add_common(verb, options->common);
  verb.example("knapsaq generate MODEL --prompt \"The river \" --max-tokens 64");
  verb.runs([options, prompt] {
    options->prompt_given = prompt.given();
    run(*options);
  });
}

}  // namespace knapsaq::command
