#include "knapsaq/text/corpus.h"

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
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

}  // namespace knapsaq
