#include "knapsaq/export/carried.h"

#include <algorithm>
#include <vector>

#include "knapsaq/base/files.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

// Elements that are checked and copied at a time.
constexpr std::int64_t kCopyElements = std::int64_t{1} << 20;

constexpr const char* kCarriedFiles[] = {"tokenizer.json",
                                         "tokenizer.model",
                                         "tokenizer_config.json",
                                         "vocab.json",
                                         "merges.txt",
                                         "gpt2-vocab.json",
                                         "gpt2-merges.txt",
                                         "tekken.json",
                                         "tiktoken.model",
                                         "added_tokens.json",
                                         "special_tokens_map.json",
                                         "generation_config.json",
                                         "chat_template.jinja",
                                         "chat_template.json",
                                         "LICENSE",
                                         "LICENSE.txt",
                                         "NOTICE",
                                         "USE_POLICY.md"};

}  // namespace

void carry_files(const fs::path& from, const fs::path& to) {
  for (const char* name : kCarriedFiles)
    if (fs::exists(from / name)) write_file(to / name, read_file(from / name));
}

void carry_tensor(const Checkpoint& checkpoint, const std::string& name, CheckpointWriter& writer) {
  const TensorView view = checkpoint.tensor(name);
  std::vector<float> values;
  for (std::int64_t first = 0; first < view.elements(); first += kCopyElements) {
    const std::int64_t count = std::min(kCopyElements, view.elements() - first);
    values.resize(static_cast<std::size_t>(count));
    read_floats(view, first, values);
    check_finite({1, count, values}, name);
    writer.write(view.bytes.subspan(static_cast<std::size_t>(first) * size_of(view.type),
                                    static_cast<std::size_t>(count) * size_of(view.type)));
  }
}

}  // namespace knapsaq
