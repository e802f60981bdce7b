#include "knapsaq/export/gguf/source_metadata.h"

#include <algorithm>
#include <array>
#include <string>
#include <type_traits>
#include <utility>

#include "knapsaq/export/gguf/description.h"
#include "knapsaq/text/chat_template.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kTokenizer = "tokenizer.";
constexpr std::string_view kOwnTokenizer = "knapsaq.tokenizer.";
constexpr std::string_view kChatTemplate = "tokenizer.chat_template";

/// Of the file, not of the model.
constexpr std::array kOfFile{"general.architecture"sv, "general.alignment"sv,    "general.file_type"sv,
                             "general.type"sv,         "general.quantized_by"sv, kGgufWriterKey};

/// GgufMetadata::add() has no empty lists; llama.cpp reads none of them.
bool is_empty_list(const GgufValue& value) {
  const auto* array = std::get_if<GgufArray>(&value);
  return array != nullptr && std::visit(
                                 [](const auto& list) {
                                   if constexpr (std::is_same_v<std::decay_t<decltype(list)>, std::monostate>)
                                     return true;
                                   else
                                     return list.empty();
                                 },
                                 *array);
}

bool is_of_tokenizer(std::string_view key) {
  return key.starts_with(kTokenizer) || key.starts_with(kOwnTokenizer);
}

}  // namespace

GgufMetadata metadata_of(const fs::path& model) {
  if (is_gguf_file(model)) return GgufFile(model).metadata();
  if (const fs::path path = model / kGgufMetadataName; is_gguf_file(path)) return GgufFile(path).metadata();
  return description_of(model);
}

bool has_tokenizer(const GgufMetadata& metadata) { return metadata.find(kTokens) != nullptr; }

bool describes_model(std::string_view key) {
  return std::ranges::find(kOfFile, key) == kOfFile.end() && !key.starts_with("split.") &&
         key.find("quantiz") == std::string_view::npos && key.find("imatrix") == std::string_view::npos;
}

void write_source_metadata(const GgufMetadata& source, const fs::path& path) {
  GgufMetadata kept;
  // What the architecture's entries are of.
  if (const GgufValue* arch = source.find("general.architecture")) kept.add("general.architecture", *arch);
  for (const auto& [key, value] : source.entries())
    if (describes_model(key) && !is_empty_list(value)) kept.add(key, value);
  GgufWriter(path, kept, {}).commit();
}

bool add_source_vocabulary(const GgufMetadata& source, const fs::path& model, std::int64_t vocab,
                           GgufMetadata& metadata) {
  const GgufValue* tokens = source.find(kTokens);
  const auto* array = tokens == nullptr ? nullptr : std::get_if<GgufArray>(tokens);
  const auto* texts = array == nullptr ? nullptr : std::get_if<std::vector<std::string>>(array);
  if (texts == nullptr || std::ssize(*texts) != vocab) return false;
  auto chat = fs::is_directory(model) ? find_chat_template(model) : std::nullopt;
  for (const auto& [key, value] : source.entries()) {
    if (!is_of_tokenizer(key) || is_empty_list(value)) continue;
    if (key == kChatTemplate && chat)
      metadata.add(key, std::exchange(chat, std::nullopt)->text);
    else
      metadata.add(key, value);
  }
  if (chat) metadata.add(std::string(kChatTemplate), std::move(chat->text));
  return true;
}

void add_source_description(const GgufMetadata& source, std::string_view arch, GgufMetadata& metadata) {
  const GgufValue* found = source.find("general.architecture");
  const auto* of_source = found == nullptr ? nullptr : std::get_if<std::string>(found);
  const std::string other = of_source == nullptr ? "" : *of_source + ".";
  for (const auto& [key, value] : source.entries()) {
    if (!describes_model(key) || is_of_tokenizer(key) || is_empty_list(value)) continue;
    if (metadata.find(key) != nullptr) continue;
    if (!other.empty() && key.starts_with(other) && *of_source != arch) continue;
    metadata.add(key, value);
  }
}

}  // namespace knapsaq
