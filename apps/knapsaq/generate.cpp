#include <memory>
#include <optional>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/error.h"
#include "knapsaq/pipeline/text_model.h"
#include "knapsaq/text/corpus.h"
#include "runtime_flags.h"
#include "terminal_input.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  std::string prompt;
  std::string prompt_file;
  bool prompt_given = false;  ///< an empty text is one, too
  RuntimeOptions runtime;
  GenerateOptions generate;
};

std::string prompt_of(const Options& options) {
  if (options.prompt_given) return to_text(options.prompt, "--prompt", "");
  if (options.prompt_file == "-") return to_text(read_standard_input(), "standard input", "");
  // What the tokenizer takes at once.
  constexpr std::uint64_t kLongest = (std::uint64_t{1} << 31) - 1;
  return read_utf8_file(options.prompt_file, kLongest);
}

nlohmann::ordered_json json_of(const GeneratedText& result, const Options& options, std::int64_t context) {
  const auto speed = [](std::optional<double> value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
  };
  return {{"model", options.model},
          {"prompt_tokens", result.prompt_tokens},
          {"text", result.text},
          {"tokens", result.tokens},
          {"reason", result.reason},
          {"temperature", options.generate.temperature},
          {"top_k", options.generate.top_k},
          {"top_p", options.generate.top_p},
          {"seed", options.generate.seed},
          {"context", context},
          {"activations", options.runtime.activations},
          {"cache", options.runtime.cache},
          {"prompt_tokens_per_second", speed(result.prompt_tokens_per_second)},
          {"generation_tokens_per_second", speed(result.generation_tokens_per_second)},
          {"first_token_seconds", result.first_token_seconds}};
}

void run(const Options& options) {
  if (options.prompt_given != options.prompt_file.empty())
    throw UsageError("give either --prompt TEXT or --prompt-file FILE");
  Environment environment(environment_options(options.common));
  TextModel model(environment, options.model, options.runtime);
  const TextSink sink = options.common.json ? TextSink() : TextSink(put);
  const GeneratedText result = model.generate(prompt_of(options), options.generate, sink);
  if (options.common.json) {
    print(json_of(result, options, model.context()));
  } else {
    put("\n");
    show_speed(result);
  }
  if (result.reason == "interrupted") throw Cancelled();
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
  add_generate_flags(verb, options->generate, GenerateOptions().max_tokens);
  add_runtime_flags(verb, options->runtime);
  add_common(verb, options->common);
  verb.example("knapsaq generate MODEL --prompt \"The river \" --max-tokens 64");
  verb.runs([options, prompt] {
    options->prompt_given = prompt.given();
    run(*options);
  });
}

}  // namespace knapsaq::command
