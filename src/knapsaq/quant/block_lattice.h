#pragma once

#include <span>
#include <vector>

#include "knapsaq/compute/ggml_block.h"
#include "knapsaq/quant/group_lattice.h"

namespace knapsaq {

/// Finds the points of a block of Q2_K, Q3_K, Q4_K, Q5_K or Q6_K, whose sub-blocks have whole numbers for
/// scales and minima: weights that were made of such a block and rounded to fp32, fp16 or bf16. Only exact
/// ones count (see GroupLattice). One object for each thread.
class BlockLattice {
 public:
  explicit BlockLattice(GgmlType type) : rule_(rule(type)) {}
  /// False if there are none. Weights must be finite.
  bool fit(std::span<const float> weights, GgmlBlock& out);
  /// Of the last fit() that found something, as LatticeFit has it.
  double evidence() const { return evidence_; }

 private:
  /// A way to make a sub-block, given d.
  struct Option {
    int scale = 0;
    int shift = 0;  ///< of the numbers
    int sign = 1;   ///< of the numbers
    const RealLattice* lattice = nullptr;
    double least_min = 0;  ///< of d_min * min
    double most_min = 0;
  };

  bool try_scale(std::uint16_t d);
  void add_options(std::size_t sub, float d, std::vector<Option>& options) const;
  bool take_mins();
  bool try_min(std::uint16_t d_min);
  bool gives(std::size_t sub, const Option& option, float d, float d_min, int min) const;
  void keep(std::size_t sub, const Option& option, int min);
  std::span<const float> sub_block(std::size_t sub) const {
    const auto size = static_cast<std::size_t>(rule_.sub_block);
    return weights_.subspan(sub * size, size);
  }

  const GgmlRule& rule_;
  GroupLattice group_;
  std::span<const float> weights_;
  std::vector<std::vector<RealLattice>> lattices_;  ///< of every sub-block
  std::vector<std::vector<Option>> options_;        ///< of every sub-block, for block_.d
  std::vector<std::size_t> order_;  ///< of sub-blocks: those of equal weights, which fit many ways, last
  GgmlBlock block_;
  double evidence_ = 0;
  int tried_ = 0;
};

}  // namespace knapsaq
