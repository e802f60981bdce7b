// A SentencePiece tokenizer.model from anywhere.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "knapsaq/base/error.h"
#include "knapsaq/text/tokenizer_model.h"
#include "knapsaq/text/tokenizer_readers.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace knapsaq;
  try {
    const TokenizerModel model(
        read_sentencepiece({reinterpret_cast<const char*>(data), size}, {}, "tokenizer.model"));
    model.decode(model.encode(" the small model  <s> \xE4\xB8\xAD\xFF", true), false);
  } catch (const InputError&) {
  }
  return 0;
}
