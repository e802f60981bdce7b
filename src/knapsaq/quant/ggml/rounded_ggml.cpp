#include "knapsaq/quant/ggml/rounded_ggml.h"

#include <cstddef>

#include "knapsaq/base/float16.h"
#include "knapsaq/quant/ggml/kernels.h"

namespace knapsaq {

RoundedGgml::RoundedGgml(GgmlMatrix& matrix)
    : RoundedMatrix(matrix.cols, rule(matrix.type).sub_block,
                    static_cast<float>(rule(matrix.type).highest - rule(matrix.type).lowest)),
      matrix_(matrix),
      rule_(rule(matrix.type)) {
  for (const std::int8_t level : rule_.levels) levels_.push_back(static_cast<float>(level - rule_.lowest));
}

/// fn(first column, bytes) for every block of a row.
template <class Function>
void RoundedGgml::for_blocks(std::int64_t row, Function&& fn) const {
  const GgmlTypeInfo& type = info(matrix_.type);
  const auto bytes = static_cast<std::size_t>(type.bytes);
  std::size_t at = static_cast<std::size_t>(row * matrix_.row_bytes());
  for (std::int64_t col = 0; col < matrix_.cols; col += type.block, at += bytes)
    fn(col, std::span(matrix_.blocks).subspan(at, bytes));
}

void RoundedGgml::nearest_points(const float* x, const float* w, const float* a, std::int8_t* q) const {
  ggml_kernels().nearest_points(matrix_.type, x, w, a, q);
}

void RoundedGgml::read_groups(std::int64_t row, std::span<float> scales, std::span<float> biases) const {
  for_blocks(row, [&](std::int64_t col, std::span<const std::byte> bytes) {
    GgmlBlock block;
    unpack_block(matrix_.type, bytes, block);
    const float d = half_to_float(block.d);
    const float m = half_to_float(block.m);
    const auto first = static_cast<std::size_t>(col / rule_.sub_block);
    const auto count = static_cast<std::size_t>(info(matrix_.type).block / rule_.sub_block);
    for (std::size_t i = 0; i < count; ++i) {
      const float scale = d * rule_.factor(block.scales[i]);
      float bias = scale * static_cast<float>(rule_.lowest);
      if (rule_.has_min) bias -= m * static_cast<float>(block.mins[i]);
      if (rule_.has_offset) bias += m;
      scales[first + i] = scale;
      biases[first + i] = bias;
    }
  });
}

void RoundedGgml::write_codes(std::int64_t row, std::span<const std::uint8_t> codes) {
  for_blocks(row, [&](std::int64_t col, std::span<std::byte> bytes) {
    GgmlBlock block;
    unpack_block(matrix_.type, bytes, block);
    for (int i = 0; i < info(matrix_.type).block; ++i)
      block.codes[static_cast<std::size_t>(i)] =
          static_cast<std::int8_t>(codes[static_cast<std::size_t>(col + i)] + rule_.lowest);
    pack_block(matrix_.type, block, bytes);
  });
}

}  // namespace knapsaq
