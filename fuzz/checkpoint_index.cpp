// JSON texts of a checkpoint: the first byte says which. 'i': a shard index; 'a': one module's entry of
// `quantization`, for a weight tensor of a fixed shape.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/checkpoint/affine_layout.h"
#include "knapsaq/checkpoint/shards.h"

namespace {

void read_entry(std::string_view text) {
  const std::vector<std::byte> codes(4 * 6 * 4);
  const knapsaq::TensorView weight{knapsaq::DType::U32, {4, 6}, codes};
  const nlohmann::json both = knapsaq::parse_json(text);
  const nlohmann::json entry = both.is_array() && !both.empty() ? both[0] : both;
  const nlohmann::json defaults = both.is_array() && both.size() > 1 ? both[1] : nlohmann::json::object();
  const knapsaq::AffineShape shape = knapsaq::parse_affine_config(entry, defaults, weight);
  for (const knapsaq::TensorSpec& spec : knapsaq::affine_tensors("m", shape)) {
    if (spec.bytes() == 0) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if (data[0] == 'i') static_cast<void>(knapsaq::parse_shard_index(text));
    if (data[0] == 'a') read_entry(text);
  } catch (const knapsaq::InputError&) {
  }
  return 0;
}
