#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace knapsaq {

/// The points that a form of storage gives to the weights of a group: scale * q with `lowest` <= q <=
/// `highest`, or with an offset scale * q + offset; q whole, scale and offset any fp16 numbers.
struct LatticePoints {
  int lowest = 0;
  int highest = 0;
  bool has_offset = false;
  float largest_scale = 65504;  ///< |scale| at most
};

/// Where a group of weights lies among such points.
struct LatticeFit {
  std::uint16_t scale = 0;      ///< fp16; may be negative
  std::uint16_t offset = 0;     ///< fp16
  std::vector<std::int16_t> q;  ///< of every weight
  /// How unlikely it is that weights which were not made of codes lie so, in bits: each distinct weight
  /// beyond those that scale and offset can be chosen for counts by the share of a step in which it would be
  /// taken.
  double evidence = 0;
};

/// A group's lattice before its numbers are put into some form: weights = scale * numbers, or with an offset
/// scale * (numbers + any whole number) + offset, for every scale between two bounds.
struct RealLattice {
  double least_scale = 0;
  double most_scale = 0;
  std::vector<int> numbers;
};

/// Finds the points of a group of weights that were rounded to fp32, fp16 or bf16 after they had been made
/// of codes.
///
/// The type is the narrowest that holds all weights of the group. A group is on the points exactly if they,
/// computed in fp32 and rounded to that type, are the weights as numbers; the product may have been rounded
/// before the sum as well (MLX). Such are looked for first. Where no fp16 scale and offset do it, because the
/// maker kept them in more bits than fp16 has, a group still counts if every weight is no further from its
/// point than those roundings account for, and a 64th of a step besides, for scale and offset in fp16. (The
/// best codes of ordinary weights are off by up to half a step.)
///
/// An object keeps its memory from group to group; one for each thread.
class GroupLattice {
 public:
  /// False if the group does not lie on such points, or a weight is beyond kLargestWeight. Weights must be
  /// finite.
  bool fit(std::span<const float> weights, const LatticePoints& points, LatticeFit& out);

  /// All lattices of real numbers on which the group lies, with numbers up to `most` in magnitude, or with an
  /// offset from 0 to `most`. For forms whose scales and offsets are products. `around`: the weights that
  /// tell the type, the group among them. None for a group of equal weights.
  std::vector<RealLattice> find(std::span<const float> weights, std::span<const float> around, int most,
                                bool has_offset);
  /// By what a number of that size may be off in the type of the last find(), and the number in that type.
  double half_ulp(double value) const;
  float rounded(float value) const;

 private:
  enum class Precision : std::uint8_t { bf16, fp16, fp32 };
  struct Value {
    double value;
    double tolerance;
    int number;  ///< value / scale, as far as it is known
  };

  void look_at(std::span<const float> weights);
  bool keep_distinct(int most);
  bool take_magnitudes(std::span<const float> weights, int most);
  bool take_differences(std::span<const float> weights, int most, double between);
  bool assign(int last);
  int number_of(double value) const;
  bool number_signed(std::span<const float> weights, const LatticePoints& points, int sign);
  bool number_differences(std::span<const float> weights);
  void take_points(std::span<const float> weights, bool has_offset);
  void search(std::span<const float> weights, const LatticePoints& points);
  bool search_magnitudes(std::span<const float> weights, const LatticePoints& points);
  bool search_differences(std::span<const float> weights, const LatticePoints& points, double slack);
  bool fit_scale(int sign);
  bool fit_offset(const LatticePoints& points);
  double evidence(const LatticePoints& points);
  bool try_on(std::uint16_t scale, std::uint16_t offset, int shift);

  Precision precision_ = Precision::fp32;
  std::vector<Value> values_;  ///< distinct magnitudes, or differences to the smallest weight; ascending, > 0
  double least_scale_ = 0;     ///< between these two, `values_` are their numbers times the scale
  double most_scale_ = 0;
  std::vector<int> numbers_;   ///< of every weight, but for a shift of all where there is an offset
  std::vector<Value> points_;  ///< the distinct weights, ascending
  double mean_weight_ = 0;     ///< of the group
  double mean_number_ = 0;
  double fitted_scale_ = 0;  ///< by least squares
  double slack_ = 0;         ///< by which they may be off besides their own rounding

  /// What fits best so far.
  struct Found {
    std::uint16_t scale = 0;
    std::uint16_t offset = 0;
    int shift = 0;
    double miss = 0;
    std::vector<int> numbers;
  };
  bool is_found_ = false;
  Found found_;
  std::int64_t tried_ = 0;
};

}  // namespace knapsaq
