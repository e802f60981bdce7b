#include "knapsaq/eval/evaluation_text.h"

#include "knapsaq/base/error.h"
#include "knapsaq/text/corpus.h"

namespace knapsaq {

EvaluationText read_evaluation_text(const std::filesystem::path& path, const Tokenizer& tokenizer,
                                    const WindowOptions& windows) {
  EvaluationText result;
  result.text = read_text_file(path);
  if (path.extension() != ".jsonl") {
    result.tokens = tokenizer.encode(result.text);
    return result;
  }
  std::string joined;
  bool first = true;
  for (const std::string& document : parse_documents(result.text, path.string(), kC4Documents)) {
    if (!first) joined += ' ';
    first = false;
    joined += document;
  }
  if (joined.find_first_not_of(' ') == std::string::npos)
    throw InputError(path.string() + ": the documents are empty; give a file with text in it");
  result.text = std::move(joined);
  result.tokens = tokenizer.encode(result.text);
  const auto most = static_cast<std::size_t>(kC4Windows * windows.window);
  if (windows.protocol != Protocol::stride && result.tokens.size() > most) result.tokens.resize(most);
  return result;
}

}  // namespace knapsaq
