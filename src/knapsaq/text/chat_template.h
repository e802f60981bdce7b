#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/text/tokenizer.h"

namespace knapsaq {

struct ChatMessage {
  std::string role;  ///< "system", "user", "assistant"
  std::string content;
};

/// A template as its file has it.
struct ChatTemplateSource {
  std::string text;
  std::string where;  ///< the file, for errors
};
/// Of a model folder chat_template.jinja, or tokenizer_config.json's chat_template (of a list the one named
/// "default"); of a GGUF file what its metadata have. Nothing if there is none. Throws InputError for a
/// damaged file.
std::optional<ChatTemplateSource> find_chat_template(const std::filesystem::path& model);

/// How a model wants a conversation written: a Jinja template that comes with its tokenizer, rendered by
/// llama.cpp's engine as Transformers' apply_chat_template() renders it.
///
/// Templates come from anywhere: they run in a child process that can do nothing but compute, for a bounded
/// time and in bounded memory (base/child.h).
class ChatTemplate {
 public:
  /// As find_chat_template().
  static std::optional<ChatTemplate> load(const std::filesystem::path& model, const Tokenizer& tokenizer);

  /// `where` names it in errors. The tokenizer gives the names of the special tokens.
  ChatTemplate(std::string source, const Tokenizer& tokenizer, std::string where);

  /// The conversation as text, of which the contents of messages are `foreign`. `add_generation_prompt` puts
  /// the beginning of an answer behind it. Throws InputError if the template is broken, refuses these
  /// messages (an unknown role, say), or runs into a limit; IoError where it cannot be confined.
  std::vector<TextPart> render(std::span<const ChatMessage> messages, bool add_generation_prompt) const;

  /// The special token that an answer ends with in this template; nothing if it ends otherwise.
  std::optional<std::int32_t> end_of_turn(const Tokenizer& tokenizer) const;

 private:
  std::string source_;
  std::string where_;
  std::vector<std::pair<std::string, std::string>> tokens_;  ///< "bos_token" and others, and their text
};

}  // namespace knapsaq
