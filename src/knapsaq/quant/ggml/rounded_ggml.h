#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "knapsaq/compute/ggml_block.h"
#include "knapsaq/compute/ggml_matrix.h"
#include "knapsaq/quant/rounded_matrix.h"

namespace knapsaq {

/// The blocks of a GGML type with all but their codes, which are overwritten: a sub-block is a group, and u =
/// q - lowest.
class RoundedGgml final : public RoundedMatrix {
 public:
  explicit RoundedGgml(GgmlMatrix& matrix);
  std::span<const float> levels() const override { return levels_; }
  bool has_points() const override { return rule_.grid != nullptr; }
  void nearest_points(const float* x, const float* w, const float* a, std::int8_t* q) const override;
  int lowest() const override { return rule_.lowest; }
  void read_groups(std::int64_t row, std::span<float> scales, std::span<float> biases) const override;
  void write_codes(std::int64_t row, std::span<const std::uint8_t> codes) override;

 private:
  template <class Function>
  void for_blocks(std::int64_t row, Function&& fn) const;

  GgmlMatrix& matrix_;
  const GgmlRule& rule_;
  std::vector<float> levels_;
};

}  // namespace knapsaq
