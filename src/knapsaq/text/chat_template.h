#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
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

/// A template as stored in its file.
struct ChatTemplateSource {
  std::string text;
  std::string where;  ///< the file, for errors
};
/// The template of a model folder: chat_template.jinja, or tokenizer_config.json's chat_template (of a list,
/// the one named "default"), or chat_template.json's (of a processor of images). For a GGUF file, the one in
/// its metadata. Nullopt if there is none. Throws InputError for a damaged file.
std::optional<ChatTemplateSource> find_chat_template(const std::filesystem::path& model);

/// The templates that a model folder has beside that one, by name: additional_chat_templates/NAME.jinja, or
/// the others of tokenizer_config.json's list. Throws InputError for a damaged file.
std::map<std::string, std::string> named_chat_templates(const std::filesystem::path& folder);

/// A model's format for conversations: a Jinja template from its tokenizer, rendered by llama.cpp's engine in
/// the same way as by Transformers' apply_chat_template().
///
/// Templates are untrusted. They run in a child process that can only compute, in bounded time and memory
/// (base/child.h). Where this process has a helper (base/helper.h), the child is the helper's.
class ChatTemplate {
 public:
  /// As find_chat_template().
  static std::optional<ChatTemplate> load(const std::filesystem::path& model, const Tokenizer& tokenizer);

  /// `where` names the template in errors. The tokenizer provides the names of the special tokens.
  ChatTemplate(std::string source, const Tokenizer& tokenizer, std::string where);

  /// The conversation as text, in which the contents of messages are marked `foreign`.
  /// `add_generation_prompt` appends the beginning of an answer. Throws InputError if the template is broken,
  /// refuses these messages (an unknown role, for example), or exceeds a limit; IoError if it cannot be
  /// confined.
  std::vector<TextPart> render(std::span<const ChatMessage> messages, bool add_generation_prompt) const;

  /// The special token that ends an answer in this template; nullopt if there is none.
  std::optional<std::int32_t> end_of_turn(const Tokenizer& tokenizer) const;

  /// render() for another process: what a helper does for the task kTask.
  static std::string serve(std::string_view request);
  static constexpr std::string_view kTask = "render-template";

 private:
  ChatTemplate() = default;
  std::string request(std::span<const ChatMessage> messages, bool add_generation_prompt) const;

  std::string source_;
  std::string where_;
  std::vector<std::pair<std::string, std::string>> tokens_;  ///< "bos_token" and others, and their text
};

}  // namespace knapsaq
