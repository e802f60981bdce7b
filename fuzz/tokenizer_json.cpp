// A tokenizer.json from anywhere either is refused with an InputError or tokenizes a hard text and back.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "knapsaq/base/error.h"
#include "knapsaq/text/tokenizer_model.h"
#include "knapsaq/text/tokenizer_readers.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace knapsaq;
  static const std::string text =
      std::string("I'm  42,000 e\xCC\x81 \xE4\xB8\xAD\xE6\x96\x87 <s> \xF0\x9F\x91\x8D\n\n\tx\xFF ") +
      std::string(70, 'a') + std::string(70, ' ');
  try {
    const std::string_view json(reinterpret_cast<const char*>(data), size);
    const TokenizerModel model(read_tokenizer_json(json, {}, "tokenizer.json"));
    const auto ids = model.encode(text, true);
    model.decode(ids, false);
    model.decode(ids, true);
  } catch (const InputError&) {
  }
  return 0;
}
