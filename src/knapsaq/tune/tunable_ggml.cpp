#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "knapsaq/base/float16.h"
#include "knapsaq/compute/ggml_block.h"
#include "knapsaq/tune/tunable_forms.h"

namespace knapsaq {
namespace {

/// w = (d * a(scale)) * q - m * min, or d * q + m; see GgmlRule. Sums: of gradient * q and of the gradient,
/// for every sub-block. Parameters: d of all blocks; then m of all blocks where the type has one; then, where
/// it has them, scales and minima of all sub-blocks.
class TunableGgml final : public TunableMatrix {
 public:
  explicit TunableGgml(GgmlMatrix matrix) : TunableMatrix(std::move(matrix)) {
    const GgmlMatrix& m = blocks();
    facts_ = &info(m.type);
    rule_ = &rule(m.type);
    in_block_ = static_cast<std::size_t>(facts_->block / rule_->sub_block);
    count_ = m.blocks.size() / static_cast<std::size_t>(facts_->bytes);
    const int bits = facts_->bits;
    std::vector<GgmlBlock> all(count_);
    for (std::size_t b = 0; b < count_; ++b) unpack_block(m.type, bytes(b), all[b]);
    for (const GgmlBlock& one : all) add(half_to_float(one.d), tuning_unit(half_to_float(one.d), bits));
    if (has_m())
      for (const GgmlBlock& one : all) add(half_to_float(one.m), unit_of_m(one));
    if (has_scales())
      for (const GgmlBlock& one : all)
        for (std::size_t k = 0; k < in_block_; ++k)
          add(one.scales[k], tuning_unit(static_cast<float>(one.scales[k]) + rule_->scale_offset, bits));
    if (rule_->has_min)
      for (const GgmlBlock& one : all)
        for (std::size_t k = 0; k < in_block_; ++k) {
          const float weight = half_to_float(one.d) * one.scales[k];
          const float step = half_to_float(one.m);
          add(one.mins[k], step == 0 ? 0 : tuning_unit(weight / step, bits));
        }
  }

  std::size_t sums() const override { return 2 * count_ * in_block_; }

  void add_sums(std::int64_t row, std::span<const float> gradient, std::span<float> sums) const override {
    const auto in_row = static_cast<std::size_t>(blocks().cols / facts_->block);
    const auto in_sub_block = static_cast<std::size_t>(rule_->sub_block);
    const float* g = gradient.data();
    GgmlBlock block;
    for (std::size_t b = static_cast<std::size_t>(row) * in_row;
         b < (static_cast<std::size_t>(row) + 1) * in_row; ++b) {
      unpack_block(blocks().type, bytes(b), block);
      for (std::size_t k = 0; k < in_block_; ++k, g += in_sub_block) {
        float with_code = 0;
        float alone = 0;
        for (std::size_t j = 0; j < in_sub_block; ++j) {
          with_code += g[j] * block.codes[k * in_sub_block + j];
          alone += g[j];
        }
        sums[2 * (b * in_block_ + k)] += with_code;
        sums[2 * (b * in_block_ + k) + 1] += alone;
      }
    }
  }

  void gradient(std::span<const float> sums, std::span<float> out) const override {
    GgmlBlock block;
    for (std::size_t b = 0; b < count_; ++b) {
      unpack_block(blocks().type, bytes(b), block);
      const float d = half_to_float(block.d);
      const float m = half_to_float(block.m);
      float by_d = 0;
      float by_m = 0;
      for (std::size_t k = 0; k < in_block_; ++k) {
        const std::size_t at = b * in_block_ + k;
        by_d += rule_->factor(block.scales[k]) * sums[2 * at];
        by_m += rule_->has_min ? -static_cast<float>(block.mins[k]) * sums[2 * at + 1] : sums[2 * at + 1];
        if (has_scales()) out[first_scale() + at] = d * rule_->step * sums[2 * at];
        if (rule_->has_min) out[first_min() + at] = -m * sums[2 * at + 1];
      }
      out[b] = by_d;
      if (has_m()) out[count_ + b] = by_m;
    }
    for (std::size_t i = 0; i < out.size(); ++i) out[i] *= unit_[i];
  }

  void set(std::span<const float> parameters) override {
    const auto integer = [&](std::size_t i, int lowest, int highest) {
      return static_cast<std::int8_t>(std::nearbyint(
          std::clamp(value(i, parameters), static_cast<float>(lowest), static_cast<float>(highest))));
    };
    GgmlBlock block;
    for (std::size_t b = 0; b < count_; ++b) {
      unpack_block(blocks().type, bytes(b), block);
      block.d = nearest_half(value(b, parameters));
      if (has_m()) block.m = nearest_half(value(count_ + b, parameters));
      for (std::size_t k = 0; k < in_block_; ++k) {
        const std::size_t at = b * in_block_ + k;
        if (has_scales())
          block.scales[k] = integer(first_scale() + at, rule_->lowest_scale, rule_->highest_scale);
        if (rule_->has_min) block.mins[k] = integer(first_min() + at, 0, rule_->highest_scale);
      }
      auto& all = std::get<GgmlMatrix>(matrix_).blocks;
      pack_block(blocks().type, block,
                 std::span(all).subspan(b * static_cast<std::size_t>(facts_->bytes),
                                        static_cast<std::size_t>(facts_->bytes)));
    }
  }

 private:
  const GgmlMatrix& blocks() const { return std::get<GgmlMatrix>(matrix_); }
  std::span<const std::byte> bytes(std::size_t block) const {
    return std::span(blocks().blocks)
        .subspan(block * static_cast<std::size_t>(facts_->bytes), static_cast<std::size_t>(facts_->bytes));
  }
  bool has_m() const { return rule_->has_min || rule_->has_offset; }
  bool has_scales() const { return rule_->highest_scale != 1; }
  std::size_t first_scale() const { return has_m() ? 2 * count_ : count_; }
  std::size_t first_min() const { return first_scale() + count_ * in_block_; }

  /// m moves every bias of the block; a parameter of 1 moves their mean by a mean scale.
  float unit_of_m(const GgmlBlock& block) const {
    const float d = half_to_float(block.d);
    if (rule_->has_offset) return tuning_unit(d, facts_->bits);
    float scales = 0;
    float mins = 0;
    for (std::size_t k = 0; k < in_block_; ++k) {
      scales += block.scales[k];
      mins += block.mins[k];
    }
    return mins == 0 ? 0 : tuning_unit(d * scales / mins, facts_->bits);
  }

  const GgmlTypeInfo* facts_ = nullptr;
  const GgmlRule* rule_ = nullptr;
  std::size_t in_block_ = 0;  ///< sub-blocks
  std::size_t count_ = 0;     ///< blocks
};

}  // namespace

std::unique_ptr<TunableMatrix> tunable_ggml(GgmlMatrix matrix) {
  return std::make_unique<TunableGgml>(std::move(matrix));
}

}  // namespace knapsaq
