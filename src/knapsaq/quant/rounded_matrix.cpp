#include "knapsaq/quant/rounded_matrix.h"

#include <cstddef>

namespace knapsaq {

RoundedPacked::RoundedPacked(PackedMatrix& packed)
    : RoundedMatrix(packed.cols, packed.group, static_cast<float>((1 << packed.bits) - 1)), packed_(packed) {}

void RoundedPacked::read_groups(std::int64_t row, std::span<float> scales, std::span<float> biases) const {
  for (std::int64_t g = 0; g < groups(); ++g) {
    const PackedMatrix::Affine affine = packed_.affine(row, g);
    scales[g] = affine.scale;
    biases[g] = affine.bias;
  }
}

void RoundedPacked::write_codes(std::int64_t row, std::span<const std::uint8_t> codes) {
  const auto words = static_cast<std::size_t>(packed_.words_per_row());
  pack_codes(codes, packed_.bits,
             std::span(packed_.codes).subspan(static_cast<std::size_t>(row) * words, words));
}

LevelTable::LevelTable(std::span<const float> from) : levels(from.begin(), from.end()) {
  for (std::size_t i = 1; i < levels.size(); ++i) thresholds.push_back((levels[i - 1] + levels[i]) / 2);
}

}  // namespace knapsaq
