#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "knapsaq/compute/ggml_matrix.h"

namespace knapsaq {

/// Consecutive codes of a block that are chosen together, out of a list of points: those of IQ1, IQ2 and IQ3.
class GgmlGrid {
 public:
  /// How codes come from a point's numbers.
  enum class Signs : std::uint8_t {
    all,   ///< sizes of codes, whose signs are stored beside them
    even,  ///< the same, but of eight consecutive codes an even number is negative: the last sign is not
           ///< stored
    shift  ///< -1, 0 or 1: codes are 8 times that plus or minus 1, all codes of a point alike
  };

  int size() const { return size_; }  ///< codes of a point: 4 or 8
  std::size_t count() const { return points_.size() / static_cast<std::size_t>(size_); }
  Signs signs() const { return signs_; }
  /// The different numbers of points, ascending.
  std::span<const std::int8_t> levels() const { return levels_; }
  /// [count()][size()]
  std::span<const std::int8_t> points() const { return points_; }
  /// [size()]
  const std::int8_t* point(std::size_t number) const {
    return points_.data() + number * static_cast<std::size_t>(size_);
  }
  /// The number of the point with these [size()] numbers, whose signs do not count unless signs() == shift;
  /// -1 if there is none.
  int find(const std::int8_t* numbers) const;

  /// The grid of a type; null for types without.
  static const GgmlGrid* of(GgmlType type);

 private:
  GgmlGrid(std::span<const std::uint16_t> packed, std::vector<std::int8_t> levels, Signs signs);

  int size_;
  Signs signs_;
  std::vector<std::int8_t> levels_;
  std::vector<std::int8_t> points_;
  std::array<std::int8_t, 256> place_{};  ///< among levels_, of a number as a byte; -1: none of them
  std::vector<std::int16_t> number_;      ///< of the point whose places are the digits of the index; or -1
};

}  // namespace knapsaq
