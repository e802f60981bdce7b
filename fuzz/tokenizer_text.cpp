// Any bytes as a text: encoding never fails, and decoding gives the text back with U+FFFD for what was not
// UTF-8.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "knapsaq/base/utf8.h"
#include "knapsaq/text/tokenizer.h"

namespace {

knapsaq::Tokenizer load(const char* name) {
  return knapsaq::Tokenizer::load(std::string(KNAPSAQ_TEST_DATA "/text/small/") + name);
}

void expect_back(const knapsaq::Tokenizer& tokenizer, std::string_view text, const std::string& valid) {
  if (tokenizer.decode(tokenizer.encode(text, false)) != valid) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace knapsaq;
  static const Tokenizer bytes = load("tiktoken");
  static const Tokenizer normalized = load("qwen2");
  static const Tokenizer pieces = load("sentencepiece");
  // Longer texts repeat themselves. The first byte chooses the tokenizer, so that each takes a third of the
  // time and no input waits for the slowest.
  constexpr std::size_t kLongest = 200;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, std::min(size - 1, kLongest));
  const std::string valid = replace_invalid_utf8(text);
  if (data[0] % 3 == 0) {
    expect_back(bytes, text, valid);
  } else if (data[0] % 3 == 1) {
    normalized.decode(normalized.encode(text), true);
  } else {
    pieces.decode(pieces.encode(text), true);
    // Special tokens get a blank behind them in SentencePiece's manner, and U+2581 comes back as a blank.
    const bool special = valid.find('<') != std::string::npos || valid.find("[M]") != std::string::npos;
    if (!special && valid.find("\xE2\x96\x81") == std::string::npos) expect_back(pieces, text, valid);
  }
  return 0;
}
