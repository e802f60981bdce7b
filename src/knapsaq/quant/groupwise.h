#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "knapsaq/quant/group_kernels.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

/// The metadata of the groups of some rows, in the order of PackedMatrix: as dequantization uses it and as it
/// is stored. Reused from chunk to chunk.
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

/// The methods that treat each group separately: a range, a scale from it, a zero point, and codes that are
/// the nearest for the metadata as stored. They differ in how they find the range and the zero point.
///
/// The order matters. Zero points are found for second-level scales as stored, and codes are chosen last, for
/// the metadata as stored, so that each step compensates for the preceding rounding.
///
/// Second-level metadata can only hold zero points in [0, 2^bits - 1], so with them every range is widened to
/// contain 0. With fp16 metadata, a group that is narrow and far from 0 (whose bias would be off by a good
/// part of a step) gets a bias rounded down and a scale that still reaches its largest weight; a constant
/// group is thus stored to 2^-21 of its value.
///
/// Integer zero points (ZeroPoint::integer) must be codes, so there too every range contains 0, and scales
/// have 11 - bits significant bits, which makes s z, and therefore the bias, exact.
class GroupwiseQuantizer : public Quantizer {
 public:
  StoredMatrix quantize(const MatrixView& weights, const Scheme& scheme,
                        const InputStatistics* inputs) const final;
  const GroupwiseQuantizer* groupwise() const final { return this; }
  /// || W - Q(W) ||_F^2 of some rows of a matrix without computing its codes, on the calling thread. The rows
  /// start at a multiple of rows_per_unit(), and their number is a multiple of it or they end with the
  /// matrix; `whole` is the range of the whole matrix. Summed over all rows, it is frobenius_error()^2 of
  /// quantize()'s result.
  double squared_error(const MatrixView& rows, const Scheme& scheme, const WeightRange& whole) const;
  /// The metadata of such rows, on the calling thread.
  void solve(const MatrixView& rows, const Scheme& scheme, const WeightRange& whole,
             GroupMetadata& out) const;

 protected:
  /// The range to be covered for the group `weights`; `whole` is that of the whole matrix.
  virtual WeightRange range(std::span<const float> weights, const WeightRange& whole) const;
  /// A better zero point than `start` for `weights` in `range`, given the scale (> 0).
  virtual float refine_zero(std::span<const float> weights, const WeightRange& range, float scale,
                            float start, float largest) const;
  /// The fp16 number to store for `bias`, given the scale as it is stored.
  virtual std::uint16_t round_bias(std::span<const float> weights, float scale, float bias,
                                   float largest) const;

 private:
  /// Finds and stores the zero point of group i with second-level metadata; its scale is already a code.
  void store_zero_twice(std::span<const float> weights, const Scheme& scheme, std::size_t i,
                        GroupMetadata& m) const;
};

/// Finds the metadata of some rows of a matrix, which start at a multiple of rows_per_unit().
using SolveGroups = std::function<void(const MatrixView& rows, GroupMetadata& out)>;

enum class Codes : std::uint8_t {
  nearest,  ///< the nearest for the metadata as stored
  none,     ///< left 0, for methods that choose codes differently
};

/// A matrix with the metadata found by `solve`, in parallel.
PackedMatrix quantize_groups(const MatrixView& weights, const Scheme& scheme, const SolveGroups& solve,
                             Codes codes);

/// Calls fn(group's number, its first column, its weights) for all groups of all rows.
template <class Function>
void for_groups(const MatrixView& rows, std::int64_t group, Function&& fn) {
  std::size_t i = 0;
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    const std::span<const float> row = rows.row(r);
    for (std::int64_t first = 0; first < rows.cols; first += group)
      fn(i++, first, row.subspan(first, std::min(group, rows.cols - first)));
  }
}

/// Throws UsageError for combinations of zero points, bits and metadata that no affine scheme has.
void check_affine(const Scheme& scheme);

/// Weights per group: `cols` for a scheme with one group per row.
std::int64_t group_of(const Scheme& scheme, std::int64_t cols);

/// Stores m.scales as codes of 8 bits, with a step and a minimum per meta_group groups. The minimum is
/// rounded down and the step up, so that no scale falls outside the range.
void store_scales_twice(const Scheme& scheme, GroupMetadata& m);

/// The scale nearest to `scale` whose products with 0 .. 2^bits - 1 are exact in fp16: at most 11 - bits
/// significant bits, so that ZeroPoint::integer's bias -s z is.
float integer_zero_scale(float scale, int bits);

}  // namespace knapsaq
