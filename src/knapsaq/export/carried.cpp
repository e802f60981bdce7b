#include "knapsaq/export/carried.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/float16.h"
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

TensorSpec carried_spec(const Checkpoint& checkpoint, const std::string& name,
                        std::span<const std::string> kept) {
  TensorSpec spec = checkpoint.spec(name);
  const std::string_view module = std::string_view(name).substr(0, name.rfind('.'));
  const bool is_kept = std::ranges::find(kept, module) != kept.end();
  if (spec.type == DType::F32 && spec.shape.size() == 2 && !is_kept) spec.type = DType::F16;
  return spec;
}

void carry_tensor(const Checkpoint& checkpoint, const std::string& name, CheckpointWriter& writer,
                  std::span<const std::string> kept) {
  const TensorView view = checkpoint.tensor(name);
  const bool narrows = carried_spec(checkpoint, name, kept).type != view.type;
  std::vector<float> values;
  std::vector<std::uint16_t> halves;
  for (std::int64_t first = 0; first < view.elements(); first += kCopyElements) {
    const std::int64_t count = std::min(kCopyElements, view.elements() - first);
    values.resize(static_cast<std::size_t>(count));
    read_floats(view, first, values);
    check_finite({1, count, values}, name);
    if (narrows) {
      halves.resize(values.size());
      std::ranges::transform(values, halves.begin(), float_to_half);
      for (std::size_t i = 0; i < halves.size(); ++i)
        if (!std::isfinite(half_to_float(halves[i])))
          throw InputError(
              fmt::format("{}: {} at {} is beyond what F16 holds; keep this matrix as it is stored", name,
                          values[i], first + static_cast<std::int64_t>(i)));
      writer.write(std::as_bytes(std::span(halves)));
      continue;
    }
    writer.write(view.bytes.subspan(static_cast<std::size_t>(first) * size_of(view.type),
                                    static_cast<std::size_t>(count) * size_of(view.type)));
  }
}

}  // namespace knapsaq
