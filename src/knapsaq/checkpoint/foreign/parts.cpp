#include "knapsaq/checkpoint/foreign/parts.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/threads.h"

namespace knapsaq::foreign {

using nlohmann::json;

std::optional<std::int64_t> integer(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return std::nullopt;
  // As large a number as fits is as wrong as one that does not.
  if (!found->is_number_integer() ||
      (found->is_number_unsigned() && found->get<std::uint64_t>() > std::uint64_t{1} << 62))
    throw InputError(fmt::format("{} in the description of the quantization is not a whole number", key));
  return found->get<std::int64_t>();
}

std::string text(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

void refuse(std::string_view tensor, std::string_view reason) {
  throw InputError(fmt::format("tensor {} {}", in_quotes(tensor), reason));
}

TensorView part(const TensorTable& tensors, const std::string& name, std::string_view of, DType type,
                std::size_t dimensions) {
  if (!tensors.contains(name))
    refuse(of, fmt::format("is there without {}, which belongs to it: the checkpoint is incomplete; "
                           "download it again",
                           in_quotes(name)));
  const TensorView view = tensors.tensor(name);
  if (view.type != type || view.shape.size() != dimensions)
    refuse(name, fmt::format("is {} of shape [{}], where {} with {} dimensions is expected",
                             name_of(view.type), fmt::join(view.shape, ", "), name_of(type), dimensions));
  return view;
}

std::optional<std::int64_t> block_extent(std::int64_t extent, std::int64_t blocks,
                                         std::span<const std::int64_t> usual) {
  if (extent < 1 || blocks < 1 || blocks > extent) return std::nullopt;
  for (const std::int64_t block : usual)
    if (block > 0 && (extent - 1) / block + 1 == blocks) return block;
  if (extent % blocks == 0) return extent / blocks;
  return std::nullopt;
}

bool is_scale_type(DType type) { return is_weight_type(type) || type == DType::F8_E8M0 || type == DType::U8; }

std::vector<float> scales(const TensorView& view) {
  if (is_weight_type(view.type)) return read_floats(view);
  std::vector<float> out(view.bytes.size());
  std::ranges::transform(view.bytes, out.begin(), [&](std::byte byte) {
    const int exponent = std::to_integer<int>(byte) - 127;
    return view.type == DType::F8_E8M0 && exponent == 128 ? NAN : std::ldexp(1.0f, exponent);
  });
  return out;
}

void round_to(DType type, std::span<float> values) {
  if (type == DType::BF16) {
    for (float& value : values) value = bfloat16_to_float(float_to_bfloat16(value));
  } else if (type == DType::F16) {
    for (float& value : values) value = half_to_float(float_to_half(value));
  }
}

std::vector<std::byte> make_rows(DType type, std::int64_t count, std::int64_t cols, std::int64_t block,
                                 const std::function<void(std::int64_t, std::span<float>)>& fill) {
  const auto width = static_cast<std::size_t>(cols);
  std::vector<std::byte> out(static_cast<std::size_t>(count) * width * size_of(type));
  parallel_for(static_cast<std::size_t>((count + block - 1) / block), [&](std::size_t index) {
    const std::int64_t first = static_cast<std::int64_t>(index) * block;
    const auto rows = static_cast<std::size_t>(std::min(block, count - first));
    std::vector<float> values(rows * width);
    fill(first, values);
    std::byte* to = out.data() + static_cast<std::size_t>(first) * width * size_of(type);
    if (type == DType::F32) {
      std::memcpy(to, values.data(), values.size() * sizeof(float));
      return;
    }
    std::vector<std::uint16_t> words(values.size());
    if (type == DType::BF16) {
      std::ranges::transform(values, words.begin(), float_to_bfloat16);
    } else {
      std::ranges::transform(values, words.begin(), float_to_half);
    }
    std::memcpy(to, words.data(), words.size() * sizeof(std::uint16_t));
  });
  return out;
}

std::string bits_text(std::int64_t least, std::int64_t most) {
  return least == most ? fmt::format("{} bits", least) : fmt::format("{} to {} bits", least, most);
}

}  // namespace knapsaq::foreign
