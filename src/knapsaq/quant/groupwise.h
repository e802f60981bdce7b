#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "knapsaq/quant/group_kernels.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

/// What the groups of some rows share, in the order of PackedMatrix: as dequantization uses it and as it is
/// stored. Reused from chunk to chunk.
struct GroupMetadata {
  std::vector<float> lows;    ///< smallest weight
  std::vector<float> highs;   ///< largest weight
  std::vector<float> scales;  ///< exactly what the stored metadata dequantize to
  std::vector<float> biases;

  std::vector<std::uint16_t> half_scales;  ///< meta_bits == 16
  std::vector<std::uint16_t> half_biases;
  std::vector<std::uint8_t> scale_codes;  ///< meta_bits == 8
  std::vector<std::uint8_t> zero_codes;
  std::vector<std::uint16_t> scale_steps;
  std::vector<std::uint16_t> scale_mins;
};

/// The methods that treat every group on its own: a range, a scale from it, a zero point, and codes that are
/// the nearest for the metadata as stored. They differ in where the range and the zero point come from.
///
/// The order matters: codes are chosen last, for the metadata as it is stored, and zero points are found for
/// second-level scales as they are stored, so that each step makes up for the rounding before it.
///
/// Second-level metadata can only hold zero points in [0, 2^bits - 1], so there every range is widened to
/// contain 0. With fp16 metadata a group that is narrow and far from 0 (its bias would be off by a good part
/// of a step) gets a bias rounded down and a scale that still reaches its largest weight; a constant group is
/// thus stored to 2^-21 of its value.
class GroupwiseQuantizer : public Quantizer {
 public:
  StoredMatrix quantize(const MatrixView& weights, const Scheme& scheme,
                        const InputStatistics* inputs) const final;
  const GroupwiseQuantizer* groupwise() const final { return this; }
  /// || W - Q(W) ||_F^2 of some rows of a matrix without making its codes, on the calling thread. The rows
  /// start at a multiple of rows_per_unit() and are a multiple of it or end with the matrix; `whole` is the
  /// range of the whole matrix. Summed over all rows it is frobenius_error()^2 of quantize()'s result.
  double squared_error(const MatrixView& rows, const Scheme& scheme, const WeightRange& whole) const;

 protected:
  /// The range that group `weights` is to be covered for; `whole` is that of the whole matrix.
  virtual WeightRange range(std::span<const float> weights, const WeightRange& whole) const;
  /// A better zero point than `start` for `weights` in `range`, given the scale (> 0).
  virtual float refine_zero(std::span<const float> weights, const WeightRange& range, float scale,
                            float start, float largest) const;
  /// The binary16 to store for `bias`, given the scale as it is stored.
  virtual std::uint16_t round_bias(std::span<const float> weights, float scale, float bias,
                                   float largest) const;

 private:
  /// Finds and stores the zero point of group i, whose scale is already a code, with second-level metadata.
  void store_zero_twice(std::span<const float> weights, const Scheme& scheme, std::size_t i,
                        GroupMetadata& m) const;
  void solve(const MatrixView& rows, const Scheme& scheme, const WeightRange& whole,
             GroupMetadata& out) const;
};

}  // namespace knapsaq
