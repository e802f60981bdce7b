#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "knapsaq/compute/packed_matrix.h"

namespace knapsaq {

/// The zero points of a matrix that can be written as W = scale * (code - zero), zero in 0 .. 2^bits - 1.
struct IntegerZeros {
  std::vector<std::uint8_t> zeros;  ///< [rows, groups()]
  bool symmetric = false;           ///< all are 2^(bits-1)
};

/// The zero points, or the reason why there are none.
struct IntegerZerosResult {
  IntegerZeros zeros;
  std::string obstacle;  ///< a clause for people; empty if there is none
};

/// Finds the zero points. They are correct only if -scale * zero equals the bias to the bit. Then scale *
/// code + bias, computed in fp32 as in Knapsaq, and scale * (code - zero), computed in any way that rounds
/// once to at least 19 bits, are the same number (an 11-bit scale times an 8-bit integer is exact in both).
IntegerZerosResult integer_zeros(const PackedMatrix& matrix);

}  // namespace knapsaq
