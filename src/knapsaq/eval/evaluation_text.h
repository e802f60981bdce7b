#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "knapsaq/eval/windows.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {

/// A text whose perplexity is measured.
struct EvaluationText {
  std::string text;
  std::vector<std::int32_t>
      tokens;  ///< of the whole text, with the special tokens that the tokenizer adds by default
};

/// A plain file is read unchanged (read_text_file()). A file that ends in .jsonl is read as GPTQ, AWQ, AMQ
/// and MXQ read C4's: the first kC4Documents documents, joined by a blank and tokenized as one text; for
/// protocols without overlap, at most kC4Windows windows of its tokens. `windows` are resolved. Throws like
/// read_text_file() and parse_documents(), and InputError for documents without any text.
EvaluationText read_evaluation_text(const std::filesystem::path& path, const Tokenizer& tokenizer,
                                    const WindowOptions& windows);

inline constexpr std::size_t kC4Documents = 1100;
inline constexpr std::int64_t kC4Windows = 256;

}  // namespace knapsaq
