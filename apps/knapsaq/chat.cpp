#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "command.h"
#include "generation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/text/chat_template.h"
#include "knapsaq/text/corpus.h"
#include "knapsaq/text/text_stream.h"
#include "terminal_input.h"

namespace knapsaq::command {
namespace {

// Room for a conversation of some pages; the keys and values of a model's whole context can take gigabytes.
constexpr std::int64_t kDefaultContext = 4096;

struct Options {
  Common common;
  std::string model;
  std::string system;
  GenerationFlags flags;
};

ChatTemplate template_of(const std::string& model, const Tokenizer& tokenizer) {
  auto found = ChatTemplate::load(model, tokenizer);
  if (!found)
    throw InputError(
        fmt::format("{}: no chat template, neither chat_template.jinja nor in tokenizer_config.json or GGUF "
                    "metadata: this "
                    "model is not made "
                    "for conversations; continue a text with knapsaq generate",
                    model));
  return std::move(*found);
}

std::vector<ChatMessage> beginning(const Options& options) {
  if (options.system.empty()) return {};
  return {{.role = "system", .content = to_text(options.system, "--system", "")}};
}

void run(const Options& options) {
  start(options.common);
  TextModel model(options.model, options.flags);
  const Tokenizer& tokenizer = model.tokenizer();
  const ChatTemplate chat = template_of(options.model, tokenizer);
  const std::int64_t context = options.flags.runtime.context > 0
                                   ? model.context_limit()
                                   : std::min(model.context_limit(), kDefaultContext);
  std::vector<ChatMessage> messages = beginning(options);
  {
    // A template that does not work, or a system text that is too long, is found before the model is loaded.
    std::vector<ChatMessage> trial = messages;
    trial.push_back({.role = "user", .content = "Hello"});
    check_prompt(std::ssize(tokenizer.encode(chat.render(trial, true))), context);
  }
  if (const auto end = chat.end_of_turn(tokenizer)) model.add_stop(*end);
  model.load(context);

  const bool terminal = ::isatty(STDIN_FILENO) != 0;
  if (terminal) fmt::print(stderr, "/clear begins anew, /exit or Ctrl-D ends\n");
  LineReader lines;
  for (;;) {
    if (terminal) fmt::print(stderr, "> ");
    const auto line = lines.next();
    if (!line || *line == "/exit") break;
    if (line->find_first_not_of(" \t\r") == std::string::npos) continue;
    if (*line == "/clear") {
      messages = beginning(options);
      continue;
    }
    messages.push_back({.role = "user", .content = to_text(*line, "standard input", "")});
    const std::vector<std::int32_t> prompt = tokenizer.encode(chat.render(messages, true));
    TextStream stream(tokenizer);
    std::string text;
    const auto show = [&](const std::string& piece) {
      text += piece;
      if (!options.common.json) put(piece);
    };
    const Generated result = model.generator().generate(prompt, model.options(),
                                                        [&](std::int32_t token) { show(stream.add(token)); });
    show(stream.finish());
    if (options.common.json) {
      // One object on one line for every turn.
      const nlohmann::ordered_json turn = {{"text", text},
                                           {"tokens", result.tokens},
                                           {"reason", name_of(result.reason)},
                                           {"prompt_tokens", prompt.size()},
                                           {"reused_tokens", result.reused_tokens}};
      put(turn.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
    } else {
      put("\n");
      show_speed(result);
      if (result.reason == StopReason::context)
        fmt::print(stderr, "the context of {} tokens is full: /clear begins anew, --context gives more\n",
                   context);
    }
    if (result.reason == StopReason::interrupted) throw Cancelled();
    messages.push_back({.role = "assistant", .content = text});
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
  add_generation_options(verb, options->flags, 1024);
  add_common(verb, options->common);
  verb.example("knapsaq chat MODEL --system \"Answer in one sentence.\"");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
