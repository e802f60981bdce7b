#include <memory>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

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
  std::string system;
  RuntimeOptions runtime;
  GenerateOptions generate;
};

std::vector<ChatTurn> beginning(const Options& options) {
  if (options.system.empty()) return {};
  return {{.role = "system", .content = to_text(options.system, "--system", "")}};
}

/// One object on one line for every turn.
void print_turn(const GeneratedText& result) {
  const nlohmann::ordered_json turn = {{"text", result.text},
                                       {"tokens", result.tokens},
                                       {"reason", result.reason},
                                       {"prompt_tokens", result.prompt_tokens},
                                       {"reused_tokens", result.reused_tokens}};
  put(turn.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

void run(const Options& options) {
  Environment environment(environment_options(options.common));
  TextModel model(environment, options.model, options.runtime);
  std::vector<ChatTurn> turns = beginning(options);
  model.check_chat(turns);

  const bool terminal = ::isatty(STDIN_FILENO) != 0;
  if (terminal) fmt::print(stderr, "/clear begins anew, /exit or Ctrl-D ends\n");
  LineReader lines;
  const TextSink sink = options.common.json ? TextSink() : TextSink(put);
  for (;;) {
    if (terminal) fmt::print(stderr, "> ");
    const auto line = lines.next();
    if (!line || *line == "/exit") break;
    if (line->find_first_not_of(" \t\r") == std::string::npos) continue;
    if (*line == "/clear") {
      turns = beginning(options);
      continue;
    }
    turns.push_back({.role = "user", .content = to_text(*line, "standard input", "")});
    const GeneratedText result = model.chat(turns, options.generate, sink);
    if (options.common.json) {
      print_turn(result);
    } else {
      put("\n");
      show_speed(result);
      if (result.reason == "context")
        fmt::print(stderr, "the context of {} tokens is full: /clear begins anew, --context gives more\n",
                   model.context());
    }
    if (result.reason == "interrupted") throw Cancelled();
    turns.push_back({.role = "assistant", .content = result.text});
  }
}

}  // namespace

void add_chat(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add(
      "chat", "Talk with a model that has a chat template; a line of the terminal or a pipe is a turn");
  verb.option("model", options->model, "Model folder in Hugging Face layout, quantized or not, or GGUF file")
      .required();
  verb.option("--system", options->system, "What the model is told before the conversation");
  add_generate_flags(verb, options->generate, 1024);
  add_runtime_flags(verb, options->runtime);
  add_common(verb, options->common);
  verb.example("knapsaq chat MODEL --system \"Answer in one sentence.\"");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
