// JSON lines to calibrate on: refused with one line that names where, or read into documents.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/base/error.h"
#include "knapsaq/base/utf8.h"
#include "knapsaq/text/corpus.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace knapsaq;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    std::size_t total = 0;
    const std::vector<std::string> documents = parse_documents(text, "file");
    for (const std::string& document : documents) {
      if (find_invalid_utf8(document) != document.size()) std::abort();
      total += document.size();
    }
    if (total > size) std::abort();
    const std::vector<std::string> first = parse_documents(text, "file", 1);
    if (!documents.empty() && (first.size() != 1 || first[0] != documents[0])) std::abort();
  } catch (const InputError& error) {
    const std::string_view what = error.what();
    if (!what.starts_with("file, line ") || what.find('\n') != std::string_view::npos) std::abort();
  }
  return 0;
}
