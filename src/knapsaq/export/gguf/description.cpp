#include "knapsaq/export/gguf/description.h"

#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <utility>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/base/utf8.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// Front matter of real model cards has a few kilobytes; lists of languages and tags are the longest.
constexpr std::size_t kLongestFrontMatter = std::size_t{256} << 10;
constexpr std::uint64_t kLargestGenerationConfig = std::uint64_t{1} << 20;

using Card = std::map<std::string, std::vector<std::string>, std::less<>>;

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

/// A plain or quoted text; empty for everything else that YAML has.
std::string scalar(std::string_view text) {
  text = trimmed(text);
  if (text.size() >= 2 && (text.front() == '"' || text.front() == '\'') && text.back() == text.front())
    return std::string(text.substr(1, text.size() - 2));
  if (text.empty() || std::string_view("|>[]{}&*!%@`#\"'").find(text.front()) != std::string_view::npos)
    return "";
  return std::string(trimmed(text.substr(0, text.find(" #"))));
}

void add_if_text(std::string_view text, std::vector<std::string>& values) {
  std::string value = scalar(text);
  const bool is_mapping = value.find(": ") != std::string::npos || value.ends_with(':');
  if (!value.empty() && !is_mapping && find_invalid_utf8(value) == value.size())
    values.push_back(std::move(value));
}

/// "[a, b]" or "a".
std::vector<std::string> values_of(std::string_view text) {
  std::vector<std::string> values;
  text = trimmed(text);
  if (!text.starts_with('[') || !text.ends_with(']')) {
    add_if_text(text, values);
    return values;
  }
  text = text.substr(1, text.size() - 2);
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    add_if_text(text.substr(0, comma), values);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return values;
}

std::string_view next_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::string beginning_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kLongestFrontMatter, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

/// Repositories: "organisation/name", or a name.
void add_repositories(const std::string& kind, const std::vector<std::string>& repositories,
                      GgufMetadata& metadata) {
  metadata.add(fmt::format("general.{}.count", kind), static_cast<std::uint32_t>(repositories.size()));
  for (std::size_t i = 0; i < repositories.size(); ++i) {
    const auto add = [&](const char* what, std::string text) {
      metadata.add(fmt::format("general.{}.{}.{}", kind, i, what), std::move(text));
    };
    const std::string& repository = repositories[i];
    const std::size_t slash = repository.find('/');
    if (slash == std::string::npos) {
      add("name", repository);
      continue;
    }
    add("name", repository.substr(slash + 1));
    add("organization", repository.substr(0, slash));
    add("repo_url",
        fmt::format("https://huggingface.co/{}{}", kind == "dataset" ? "datasets/" : "", repository));
  }
}

void add_card(const Card& card, GgufMetadata& metadata) {
  const auto find = [&](const char* name) -> const std::vector<std::string>* {
    const auto found = card.find(name);
    return found == card.end() || found->second.empty() ? nullptr : &found->second;
  };
  if (const auto* names = find("license"))
    metadata.add("general.license", fmt::format("{}", fmt::join(*names, ",")));
  if (const auto* name = find("license_name")) metadata.add("general.license.name", name->front());
  if (const auto* link = find("license_link")) metadata.add("general.license.link", link->front());
  if (const auto* models = find("base_model")) add_repositories("base_model", *models, metadata);
  if (const auto* sets = find("datasets")) add_repositories("dataset", *sets, metadata);
  std::vector<std::string> tags;
  for (const char* key : {"tags", "pipeline_tag"})
    if (const auto* some = find(key)) tags.insert(tags.end(), some->begin(), some->end());
  if (!tags.empty()) metadata.add("general.tags", GgufArray(std::move(tags)));
  if (const auto* languages = find("language")) metadata.add("general.languages", GgufArray(*languages));
}

void add_sampling(const nlohmann::json& config, GgufMetadata& metadata) {
  if (!config.is_object()) return;
  const auto number = [&](const char* name) -> std::optional<double> {
    const auto found = config.find(name);
    if (found == config.end() || !found->is_number()) return std::nullopt;
    const auto value = found->get<double>();
    return std::abs(value) <= std::numeric_limits<std::int32_t>::max() ? std::optional(value) : std::nullopt;
  };
  if (const auto top_k = number("top_k"))
    metadata.add("general.sampling.top_k", static_cast<std::int32_t>(*top_k));
  for (const auto& [name, key] : {std::pair{"top_p", "top_p"}, {"min_p", "min_p"}, {"temperature", "temp"}})
    if (const auto value = number(name))
      metadata.add(fmt::format("general.sampling.{}", key), static_cast<float>(*value));
}

}  // namespace

Card front_matter(std::string_view card) {
  Card fields;
  if (next_line(card) != "---") return fields;
  std::vector<std::string>* list = nullptr;  // of the last key, whose values may follow
  while (!card.empty()) {
    const std::string_view line = next_line(card);
    if (trimmed(line) == "---") return fields;
    const std::string_view text = trimmed(line);
    if (text.starts_with("- ")) {
      if (list != nullptr) add_if_text(text.substr(2), *list);
      continue;
    }
    if (line.empty() || line.front() == ' ' || line.front() == '\t' || line.front() == '#') continue;
    const std::size_t colon = line.find(':');
    list = nullptr;
    if (colon == std::string_view::npos) continue;
    list = &fields[std::string(line.substr(0, colon))];
    *list = values_of(line.substr(colon + 1));
  }
  return {};  // without an end, it is no front matter
}

GgufMetadata description_of(const fs::path& folder) {
  GgufMetadata metadata;
  if (const fs::path card = folder / "README.md"; fs::is_regular_file(card))
    add_card(front_matter(beginning_of(card)), metadata);
  if (const fs::path path = folder / "generation_config.json"; fs::is_regular_file(path)) {
    try {
      add_sampling(parse_python_json(read_file(path, kLargestGenerationConfig)), metadata);
    } catch (const InputError& error) {
      throw InputError(fmt::format("{}: {}", path.string(), error.what()));
    }
  }
  return metadata;
}

}  // namespace knapsaq
