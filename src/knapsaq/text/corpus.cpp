#include "knapsaq/text/corpus.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/base/looks_like.h"
#include "knapsaq/base/text_encoding.h"

namespace knapsaq {

namespace {

namespace fs = std::filesystem;

/// Whether the first line is an object with a string 'text', as in documents line by line.
bool begins_with_document(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || text[first] != '{') return false;
  text.remove_prefix(first);
  text = text.substr(0, text.find('\n'));
  // Documents of corpora have some kilobytes; a text without lines is not one.
  constexpr std::size_t kLongestDocument = std::size_t{16} << 20;
  if (text.size() > kLongestDocument) return false;
  try {
    const nlohmann::json object = parse_json(text);
    return object.is_object() && object.contains("text") && object["text"].is_string();
  } catch (const InputError&) {
    return false;
  }
}

void refuse_json(std::string_view text, const fs::path& path) {
  if (path.extension() == ".jsonl" || path.extension() == ".txt") return;
  if (begins_with_document(text))
    throw InputError(
        fmt::format("{}: holds documents as JSON, one on a line: give the file a name that ends in .jsonl "
                    "(or in .txt, if this is the text)",
                    path.string()));
  if (path.extension() == ".json")
    throw InputError(
        fmt::format("{}: is a JSON document; give plain text, or a .jsonl file with an object that has a "
                    "string 'text' on every line (a text that looks like JSON: name it .txt)",
                    path.string()));
}

bool named_as_page(const fs::path& path) {
  return path.extension() == ".html" || path.extension() == ".htm" || path.extension() == ".xml";
}

}  // namespace

std::string to_text(std::string bytes, const std::string& where, const std::string& file) {
  const std::string_view text = without_cut_ends(bytes);
  if (const std::string reason = why_not_utf8(text, file); !reason.empty())
    throw InputError(fmt::format("{}: {}", where, reason));
  const auto begin = static_cast<std::size_t>(text.data() - bytes.data());
  bytes.resize(begin + text.size());
  bytes.erase(0, begin);
  return bytes;
}

std::string read_utf8_file(const fs::path& path, std::uint64_t limit) {
  return to_text(read_file(path, limit), path.string(), path.string());
}

std::string read_text_file(const fs::path& path) {
  // The limit of the tokenizer for one call, and some hours of evaluation on a small model.
  constexpr std::uint64_t kLargestText = (std::uint64_t{1} << 31) - 1;
  std::string text = read_utf8_file(path, kLargestText);
  if (text.empty()) throw InputError(path.string() + ": the text is empty; give a file with text in it");
  if (std::string look = looks_like_document(text); !look.empty() && !named_as_page(path))
    throw InputError(
        fmt::format("{}: {} (a page that is meant as text: name it .html)", path.string(), look));
  refuse_json(text, path);
  return text;
}

std::vector<std::string> parse_documents(std::string_view text, const std::string& where, std::size_t limit) {
  std::vector<std::string> documents;
  for (std::size_t number = 1; !text.empty() && documents.size() < limit; ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto fail = [&](const std::string& reason) {
      throw InputError(fmt::format("{}, line {}: {}; every line has to be an object with a string 'text'",
                                   where, number, reason));
    };
    nlohmann::json object;
    if (number == 1 && line.find_first_not_of(" \t\r") == line.find('['))
      fail("the file is one JSON document, not one on every line");
    try {
      object = parse_json(line);
    } catch (const InputError& error) {
      fail(error.what());
    }
    const auto found = object.is_object() ? object.find("text") : object.end();
    if (found == object.end() || !found->is_string()) fail("there is no string 'text'");
    documents.push_back(found->get<std::string>());
  }
  return documents;
}

}  // namespace knapsaq
