// What lies beside a vocabulary. The input is an object whose fields are the files of a folder; they are read
// and applied to a small tokenizer, which encodes a text.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/text/tokenizer_model.h"
#include "knapsaq/text/tokenizer_readers.h"
#include "scratch_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace knapsaq;
  static const ScratchFolder folder;
  constexpr std::string_view kVocabulary =
      R"({"a":0,"b":1,"ab":2,"aba":3,"Ġ":4,"Ġa":5,"bb":6,"<|endoftext|>":7})";
  try {
    const nlohmann::json files = parse_json({reinterpret_cast<const char*>(data), size});
    if (!files.is_object()) return 0;
    for (const char* name :
         {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"}) {
      if (files.contains(name))
        std::ofstream(folder / name) << files[name].dump();
      else
        std::filesystem::remove(folder / name);
    }
    const TokenizerSettings settings = read_tokenizer_settings(folder.path());
    const TokenizerModel model(read_vocabulary_and_merges(kVocabulary, "#version: 0.2\na b\nab a\n", settings,
                                                          "vocab.json", "merges.txt"));
    model.decode(model.encode("ab<|endoftext|> a <s>x ", true), false);
  } catch (const InputError& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
  }
  return 0;
}
