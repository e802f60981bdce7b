#include "knapsaq/text/corpus.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/text/utf8.h"

namespace knapsaq {

std::string read_text_file(const std::filesystem::path& path) {
  // What the tokenizer takes at once, and some hours of evaluation on a small model.
  constexpr std::uint64_t kLargestText = (std::uint64_t{1} << 31) - 1;
  std::string text = read_file(path, kLargestText);
  if (text.empty()) throw InputError(path.string() + ": the text is empty; give a file with text in it");
  if (find_invalid_utf8(text) != text.size()) text = replace_invalid_utf8(text);
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
