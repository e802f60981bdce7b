#include "knapsaq/text/tokenizer_settings.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/text/json_reader.h"
#include "knapsaq/text/tokenizer_readers.h"
#include "knapsaq/text/vocabulary.h"

namespace knapsaq {
namespace {

using Json = nlohmann::json;

/// Real ones have less than 1 MiB (many added tokens, long chat templates).
constexpr std::uint64_t kLargestSettings = std::uint64_t{64} << 20;

std::optional<Json> read_json(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  return parse_json_object(read_file(path, kLargestSettings), path.string());
}

/// A token's text, which is a string or an object with its content.
std::optional<std::string> token_text(const Json& json, const std::string& where) {
  if (json.is_null()) return std::nullopt;
  if (json.is_string()) return json.get<std::string>();
  if (json.is_object()) return required_string(json, "content", where);
  throw InputError(
      fmt::format("{}: a special token is neither a string nor an object; the file is damaged", where));
}

void read_roles(const Json& json, TokenizerSettings& settings, const std::string& where) {
  const auto role = [&](const char* name) -> std::optional<std::string> {
    const Json* value = optional_field(json, name);
    if (value == nullptr) return std::nullopt;
    auto text = token_text(*value, where);
    if (text) settings.special.push_back(*text);
    return text;
  };
  const auto keep = [](std::optional<std::string>& known, std::optional<std::string> found) {
    if (!known) known = std::move(found);
  };
  keep(settings.bos, role("bos_token"));
  keep(settings.eos, role("eos_token"));
  keep(settings.unknown, role("unk_token"));
  keep(settings.pad, role("pad_token"));
  for (const char* name : {"sep_token", "cls_token", "mask_token"}) role(name);
  // The second is Transformers 5's name, whose value may also be an object of names and tokens.
  for (const char* name : {"additional_special_tokens", "extra_special_tokens"}) {
    const Json* more = optional_field(json, name);
    if (more == nullptr || !more->is_structured()) continue;
    for (const Json& token : *more) {
      if (auto text = token_text(token, where)) settings.special.push_back(std::move(*text));
    }
  }
}

void read_added_decoder(const Json& json, TokenizerSettings& settings, const std::string& where) {
  const Json* decoder = optional_field(json, "added_tokens_decoder");
  if (decoder == nullptr) return;
  if (!decoder->is_object())
    throw InputError(where + ": 'added_tokens_decoder' is not an object; the file is damaged");
  for (const auto& [key, value] : decoder->items()) {
    std::int64_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size()) {
      throw InputError(where + ": 'added_tokens_decoder' has a key that is no id; the file is damaged");
    }
    settings.added.push_back(read_added_token(value, id, where));
  }
}

void read_added_map(const Json& json, TokenizerSettings& settings, const std::string& where) {
  for (const auto& [content, value] : json.items()) {
    if (!value.is_number_integer())
      throw InputError(where + ": an id is not an integer; the file is damaged");
    // As transformers reads this file: a token with a role is special; others are searched for in normalised
    // text.
    const bool special =
        std::find(settings.special.begin(), settings.special.end(), content) != settings.special.end();
    settings.added.push_back({.id = checked_id(value.get<std::int64_t>(), where),
                              .content = content,
                              .special = special,
                              .normalized = !special});
  }
}

}  // namespace

TokenizerSettings read_tokenizer_settings(const std::filesystem::path& folder) {
  TokenizerSettings settings;
  const auto config_path = folder / "tokenizer_config.json";
  if (const auto json = read_json(config_path)) {
    const std::string where = config_path.string();
    settings.tokenizer_class = optional_string(*json, "tokenizer_class", where).value_or("");
    if (settings.tokenizer_class.ends_with("Fast"))
      settings.tokenizer_class.resize(settings.tokenizer_class.size() - 4);
    settings.add_bos = optional_bool(*json, "add_bos_token", where);
    settings.add_eos = optional_bool(*json, "add_eos_token", where);
    settings.add_prefix_space = optional_bool(*json, "add_prefix_space", where);
    settings.legacy = optional_bool(*json, "legacy", where);
    read_roles(*json, settings, where);
    read_added_decoder(*json, settings, where);
  }
  bool roles_known = std::filesystem::exists(config_path);
  const auto map_path = folder / "special_tokens_map.json";
  if (const auto json = read_json(map_path)) {
    read_roles(*json, settings, map_path.string());
    roles_known = true;
  }
  const auto added_path = folder / "added_tokens.json";
  if (settings.added.empty()) {
    if (const auto json = read_json(added_path)) read_added_map(*json, settings, added_path.string());
  }
  std::sort(settings.added.begin(), settings.added.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  const auto model_path = folder / "config.json";
  if (const auto json = read_json(model_path)) {
    const auto id = [&](const char* field) -> std::optional<std::int32_t> {
      const Json* value = optional_field(*json, field);
      // Some models have several end tokens; the first is the one of plain text.
      if (value != nullptr && value->is_array() && !value->empty()) value = &value->front();
      if (value == nullptr || !value->is_number_integer()) return std::nullopt;
      const auto number = value->get<std::int64_t>();
      if (number < 0 || number > Vocabulary::kLargestId) return std::nullopt;
      return static_cast<std::int32_t>(number);
    };
    if (!roles_known) {
      settings.bos_id = id("bos_token_id");
      settings.eos_id = id("eos_token_id");
    }
    const Json* type = optional_field(*json, "model_type");
    if (type != nullptr && type->is_string()) settings.model_type = type->get<std::string>();
  }
  return settings;
}

}  // namespace knapsaq
