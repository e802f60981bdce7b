#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "knapsaq/checkpoint/foreign/foreign.h"

namespace knapsaq::foreign {

/// The floats of the 256 bytes of FP8 (E4M3, the kind without infinities), NaN included.
const std::array<float, 256>& e4m3_values();

/// The 16 numbers of E2M1 (OCP Microscaling Formats 1.0): sign, 2 bits of exponent, 1 of mantissa.
inline constexpr std::array<float, 16> kE2m1{0,     .5f,  1,  1.5f,  2,  3,  4,  6,
                                             -0.0f, -.5f, -1, -1.5f, -2, -3, -4, -6};

/// FP8 weights with scales: [.., rows, cols] by scales [.., row blocks, column blocks]; one number, or one
/// for every row, counts as such. w = fp8 * scale.
struct Fp8Weight {
  std::string weight;  ///< names in the table
  std::string scale;
  std::span<const std::int64_t> block_rows;  ///< usual extents of a block (see block_extent())
  std::span<const std::int64_t> block_cols;
  DType via = DType::F32;  ///< what the product is rounded to before it gets the model's type
};

/// Throws InputError if the shapes do not fit. `blocks` becomes the text of what a scale is for: "128 x 128
/// blocks", "rows", "tensors".
DerivedTensor dequantized(const ForeignFiles& files, const Fp8Weight& weight, std::string& blocks);

}  // namespace knapsaq::foreign
