// Llama 3's tokenizer.model, and merges.txt, from anywhere. The first byte says which; 'b' puts the 256
// single bytes in front, so that the rest can be a few lines.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "knapsaq/base/error.h"
#include "knapsaq/text/tokenizer_model.h"
#include "knapsaq/text/tokenizer_readers.h"

namespace {

std::string single_bytes() {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string lines;
  for (unsigned byte = 0; byte < 256; ++byte) {
    lines += kDigits[byte >> 2];
    lines += kDigits[(byte & 3) << 4];
    lines += "== " + std::to_string(byte) + "\n";
  }
  return lines;
}

knapsaq::TokenizerParts read(std::string_view text) {
  const char kind = text.empty() ? 'b' : text[0];
  if (!text.empty()) text.remove_prefix(1);
  if (kind == 'm') {
    constexpr std::string_view kVocabulary =
        R"({"a":0,"b":1,"ab":2,"aba":3,"Ġ":4,"Ġa":5,"bb":6,"<|endoftext|>":7})";
    return knapsaq::read_vocabulary_and_merges(kVocabulary, text, {}, "vocab.json", "merges.txt");
  }
  if (kind == 't') return knapsaq::read_tiktoken(text, {}, "tokenizer.model");
  static const std::string front = single_bytes();
  return knapsaq::read_tiktoken(front + std::string(text), {}, "tokenizer.model");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace knapsaq;
  try {
    const TokenizerModel model(read({reinterpret_cast<const char*>(data), size}));
    model.decode(model.encode("abab abba <|endoftext|> \xE4\xB8\xAD \xFF", true), false);
  } catch (const InputError&) {
  }
  return 0;
}
