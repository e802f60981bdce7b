#include "knapsaq/compute/ggml_grid.h"

#include <utility>

#include "knapsaq/compute/ggml_grid_points.h"

namespace knapsaq {

GgmlGrid::GgmlGrid(std::span<const std::uint16_t> packed, std::vector<std::int8_t> levels, Signs signs)
    : size_(levels.size() == 3 ? 8 : 4), signs_(signs), levels_(std::move(levels)) {
  place_.fill(-1);
  for (std::size_t i = 0; i < levels_.size(); ++i) {
    const auto level = static_cast<std::uint8_t>(levels_[i]);
    place_[level] = static_cast<std::int8_t>(i);
    if (signs != Signs::shift) place_[static_cast<std::uint8_t>(256 - level)] = static_cast<std::int8_t>(i);
  }
  std::size_t keys = 1;
  for (int i = 0; i < size_; ++i) keys *= levels_.size();
  number_.assign(keys, -1);
  const unsigned bits = 16 / static_cast<unsigned>(size_) - (size_ == 4 ? 1 : 0);
  points_.reserve(packed.size() * static_cast<std::size_t>(size_));
  for (std::size_t p = 0; p < packed.size(); ++p) {
    std::size_t key = 0;
    std::size_t digit = 1;
    for (int i = 0; i < size_; ++i, digit *= levels_.size()) {
      const std::size_t place = (packed[p] >> (bits * static_cast<unsigned>(i))) & ((1U << bits) - 1);
      points_.push_back(levels_[place]);
      key += place * digit;
    }
    number_[key] = static_cast<std::int16_t>(p);
  }
}

int GgmlGrid::find(const std::int8_t* numbers) const {
  std::size_t key = 0;
  for (int i = size_ - 1; i >= 0; --i) {
    const std::int8_t place = place_[static_cast<std::uint8_t>(numbers[i])];
    if (place < 0) return -1;
    key = key * levels_.size() + static_cast<std::size_t>(place);
  }
  return number_[key];
}

const GgmlGrid* GgmlGrid::of(GgmlType type) {
  static const GgmlGrid kIq1s(kIq1sPoints, {-1, 0, 1}, Signs::shift);
  static const GgmlGrid kIq2xxs(kIq2xxsPoints, {8, 25, 43}, Signs::even);
  static const GgmlGrid kIq2xs(kIq2xsPoints, {8, 25, 43}, Signs::even);
  static const GgmlGrid kIq2s(kIq2sPoints, {8, 25, 43}, Signs::all);
  static const GgmlGrid kIq3xxs(kIq3xxsPoints, {4, 12, 20, 28, 36, 44, 52, 62}, Signs::even);
  static const GgmlGrid kIq3s(kIq3sPoints, {1, 3, 5, 7, 9, 11, 13, 15}, Signs::all);
  switch (type) {
    case GgmlType::IQ1_S:
    case GgmlType::IQ1_M:
      return &kIq1s;
    case GgmlType::IQ2_XXS:
      return &kIq2xxs;
    case GgmlType::IQ2_XS:
      return &kIq2xs;
    case GgmlType::IQ2_S:
      return &kIq2s;
    case GgmlType::IQ3_XXS:
      return &kIq3xxs;
    case GgmlType::IQ3_S:
      return &kIq3s;
    default:
      return nullptr;
  }
}

}  // namespace knapsaq
