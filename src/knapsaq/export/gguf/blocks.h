#pragma once

#include <optional>
#include <string>

#include "knapsaq/compute/ggml_matrix.h"
#include "knapsaq/compute/packed_matrix.h"

namespace knapsaq {

/// An affine matrix in blocks of a GGML type with exactly the same weights, if there is one:
///   8 bits, integer zero points within reach of int8   Q8_0: d = s, q = u - z
///   4 bits, zero point 8                               Q4_0: d = s, q = u
///   4 bits, any bias                                   Q4_1: d = s, m = bias
///   5 bits, zero point 16                              Q5_0: d = s, q = u
///   5 bits, any bias                                   Q5_1: d = s, m = bias
///   2 bits, zero point 2                               Q2_0: d = -s, q = 3 - u
///   2 bits, zero point 1                               Q2_0: d = s, q = u
/// Groups must be whole blocks, and scales (and m) fp16 numbers. Every weight is decoded again and compared,
/// so the result is exact for any metadata.
std::optional<GgmlMatrix> exact_blocks(const PackedMatrix& matrix);

/// The reason why exact_blocks() returned nothing, as the end of a sentence for people.
std::string why_not_exact(const PackedMatrix& matrix);

}  // namespace knapsaq
