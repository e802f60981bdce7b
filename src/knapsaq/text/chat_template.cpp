#include "knapsaq/text/chat_template.h"

#include <algorithm>
#include <new>
#include <utility>

#include <fmt/format.h>
#include <jinja/lexer.h>
#include <jinja/parser.h>
#include <jinja/runtime.h>
#include <jinja/value.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/child.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/helper.h"
#include "knapsaq/base/looks_like.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/text/corpus.h"
#include "knapsaq/text/gguf_tokenizer.h"
#include "knapsaq/text/json_reader.h"
#include "knapsaq/text/part_bytes.h"
#include "knapsaq/text/tokenizer_model.h"

namespace knapsaq {
namespace {

/// The longest real ones have about 30 kB.
constexpr std::size_t kLongestTemplate = std::size_t{1} << 20;
/// As in tokenizer_settings.cpp.
constexpr std::uint64_t kLargestSettings = std::uint64_t{64} << 20;

jinja::value text_value(const std::string& text, bool foreign) {
  auto value = jinja::mk_val<jinja::value_string>(text);
  if (foreign) value->mark_input();
  return value;
}

std::vector<TextPart> rendered_parts(const jinja::string& text) {
  std::vector<TextPart> parts;
  for (const jinja::string_part& part : text.parts)
    parts.push_back({.text = part.val, .foreign = part.is_input});
  return parts;
}

/// The engine's messages quote the source over several lines; the reason follows the last "Error: ".
std::string reason_of(std::string_view message) {
  constexpr std::string_view kMark = "Error: ";
  if (const std::size_t at = message.rfind(kMark); at != std::string_view::npos)
    message.remove_prefix(at + kMark.size());
  // The engine reports this exception as text, too.
  if (message == std::bad_alloc().what()) return "takes more memory than it may have";
  return in_quotes(message.substr(0, message.find('\n')));
}

constexpr const char* kDefault = "default";

/// The templates in a JSON file's chat_template, by name; a single one is the default.
std::map<std::string, std::string> listed_templates(const std::filesystem::path& path) {
  std::map<std::string, std::string> found;
  if (!std::filesystem::exists(path)) return found;
  const std::string where = path.string();
  const nlohmann::json json = parse_json_object(read_file(path, kLargestSettings), where);
  const nlohmann::json* list = optional_field(json, "chat_template");
  if (list == nullptr) return found;
  if (list->is_string()) return {{kDefault, list->get<std::string>()}};
  if (!list->is_array())
    throw InputError(where + ": 'chat_template' is neither a text nor a list; the file is damaged");
  for (const nlohmann::json& entry : *list)
    if (entry.is_object())
      found.emplace(required_string(entry, "name", where), required_string(entry, "template", where));
  return found;
}

}  // namespace

std::optional<ChatTemplateSource> find_chat_template(const std::filesystem::path& model) {
  if (is_gguf_file(model)) {
    auto source = gguf_chat_template(model);
    if (!source) return std::nullopt;
    return ChatTemplateSource{std::move(*source), model.string()};
  }
  if (const auto path = model / "chat_template.jinja"; std::filesystem::exists(path)) {
    std::string text = read_utf8_file(path, kLongestTemplate);
    if (const std::string look = looks_like(text); !look.empty())
      throw InputError(fmt::format("{}: {}", path.string(), look));
    return ChatTemplateSource{std::move(text), path.string()};
  }
  std::map<std::string, std::string> found = listed_templates(model / "tokenizer_config.json");
  if (const auto usual = found.find(kDefault); usual != found.end())
    return ChatTemplateSource{std::move(usual->second), (model / "tokenizer_config.json").string()};
  found = listed_templates(model / "chat_template.json");
  if (const auto usual = found.find(kDefault); usual != found.end())
    return ChatTemplateSource{std::move(usual->second), (model / "chat_template.json").string()};
  return std::nullopt;
}

std::map<std::string, std::string> named_chat_templates(const std::filesystem::path& folder) {
  std::map<std::string, std::string> found;
  if (const auto more = folder / "additional_chat_templates"; std::filesystem::is_directory(more)) {
    for (const auto& entry : std::filesystem::directory_iterator(more))
      if (entry.is_regular_file() && entry.path().extension() == ".jinja")
        found.emplace(entry.path().stem().string(), read_utf8_file(entry.path(), kLongestTemplate));
  } else {
    found = listed_templates(folder / "tokenizer_config.json");
  }
  found.erase(kDefault);
  return found;
}

std::optional<ChatTemplate> ChatTemplate::load(const std::filesystem::path& model,
                                               const Tokenizer& tokenizer) {
  auto found = find_chat_template(model);
  if (!found) return std::nullopt;
  return ChatTemplate(std::move(found->text), tokenizer, std::move(found->where));
}

ChatTemplate::ChatTemplate(std::string source, const Tokenizer& tokenizer, std::string where)
    : source_(std::move(source)), where_(std::move(where)) {
  if (source_.size() > kLongestTemplate)
    throw InputError(fmt::format("{}: a chat template of more than 1 MiB", where_));
  const TokenizerParts& parts = tokenizer.model().parts();
  const auto add = [&](const char* name, std::optional<std::int32_t> id) {
    if (!id) return;
    if (const auto text = tokenizer.model().token_text(*id, false)) tokens_.emplace_back(name, *text);
  };
  add("bos_token", parts.bos);
  add("eos_token", parts.eos);
  add("pad_token", parts.pad);
  add("unk_token", parts.unknown);
}

std::vector<TextPart> ChatTemplate::render(std::span<const ChatMessage> messages,
                                           bool add_generation_prompt) const {
  if (has_helper()) return parts_of(ask_helper(kTask, request(messages, add_generation_prompt)));
  const auto work = [&] {
    const jinja::lexer_result lexed = jinja::lexer().tokenize(source_);
    const jinja::program program = jinja::parse_from_tokens(lexed);
    jinja::context context(source_);
    auto list = jinja::mk_val<jinja::value_array>();
    for (const ChatMessage& message : messages) {
      auto object = jinja::mk_val<jinja::value_object>();
      object->insert("role", text_value(message.role, false));
      object->insert("content", text_value(message.content, true));
      list->push_back(object);
    }
    context.set_val("messages", list);
    // Transformers always provides these.
    context.set_val("tools", jinja::mk_val<jinja::value_none>());
    context.set_val("documents", jinja::mk_val<jinja::value_none>());
    context.set_val("add_generation_prompt", jinja::mk_val<jinja::value_bool>(add_generation_prompt));
    for (const auto& [name, text] : tokens_) context.set_val(name, text_value(text, false));
    jinja::runtime runtime(context);
    return to_bytes(rendered_parts(jinja::runtime::gather_string_parts(runtime.execute(program))->val_str));
  };
  const std::string what = fmt::format("{}: the chat template", where_);
  const ChildAnswer answer = run_in_child(what, work);
  if (answer.threw) throw InputError(fmt::format("{} fails: {}", what, reason_of(answer.bytes)));
  try {
    return parts_of(answer.bytes);
  } catch (const InputError& error) {
    throw InputError(fmt::format("{} {}", what, error.what()));
  }
}

// As parts of a text: the template, its file, whether the beginning of an answer is wanted; then names and
// texts of the special tokens; then roles and contents, which are foreign.
std::string ChatTemplate::request(std::span<const ChatMessage> messages, bool add_generation_prompt) const {
  std::vector<TextPart> parts = {
      {source_, false}, {where_, false}, {add_generation_prompt ? "1" : "", false}};
  const auto add = [&](const std::string& name, const std::string& text, bool foreign) {
    parts.push_back({name, foreign});
    parts.push_back({text, foreign});
  };
  for (const auto& [name, text] : tokens_) add(name, text, false);
  for (const ChatMessage& message : messages) add(message.role, message.content, true);
  return to_bytes(parts);
}

std::string ChatTemplate::serve(std::string_view request) {
  std::vector<TextPart> parts = parts_of(request);
  if (parts.size() < 3 || parts.size() % 2 == 0) throw InputError("a request without a template");
  ChatTemplate chat;
  chat.source_ = std::move(parts[0].text);
  chat.where_ = std::move(parts[1].text);
  std::vector<ChatMessage> messages;
  for (std::size_t i = 3; i < parts.size(); i += 2) {
    if (parts[i].foreign)
      messages.push_back({std::move(parts[i].text), std::move(parts[i + 1].text)});
    else
      chat.tokens_.emplace_back(std::move(parts[i].text), std::move(parts[i + 1].text));
  }
  return to_bytes(chat.render(messages, !parts[2].text.empty()));
}

std::optional<std::int32_t> ChatTemplate::end_of_turn(const Tokenizer& tokenizer) const {
  const std::vector<ChatMessage> messages = {{"user", "a"}, {"assistant", "b"}};
  std::vector<TextPart> parts;
  try {
    parts = render(messages, false);
  } catch (const InputError&) {
    return std::nullopt;  // the conversation itself will show what is wrong
  }
  const auto answer =
      std::find_if(parts.rbegin(), parts.rend(), [](const TextPart& part) { return part.foreign; });
  if (answer == parts.rbegin() || answer == parts.rend()) return std::nullopt;
  const std::vector<std::int32_t> after = tokenizer.encode(std::prev(answer)->text, false);
  if (after.empty()) return std::nullopt;
  for (const AddedToken& token : tokenizer.model().parts().added)
    if (token.id == after.front() && token.special) return token.id;
  return std::nullopt;
}

}  // namespace knapsaq
