#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace knapsaq {

/// A weight matrix W[rows, cols] in bitsandbytes' NF4 with double quantization (QLoRA, Dettmers et al. 2023,
/// section 3): the rows one after another are cut into blocks of 64 weights, whatever the length of a row;
///   w = nf4_values()[code] * absmax,   absmax = nf4_absmax_values()[c] * nested_absmax[block / 256] + offset
/// with one 4-bit code per weight, one byte c per block, and every product and sum rounded to fp32.
struct Nf4Matrix {
  static constexpr std::int64_t kBlock = 64;    ///< weights that share an absmax
  static constexpr std::int64_t kNested = 256;  ///< blocks that share a nested absmax

  std::int64_t rows = 0;                   ///< out
  std::int64_t cols = 0;                   ///< in
  std::vector<std::uint8_t> codes;         ///< [ceil(rows * cols / 2)]; the first weight in the high nibble
  std::vector<std::uint8_t> absmax_codes;  ///< [blocks()]
  std::vector<float> nested_absmax;        ///< [nested_blocks()]
  float offset = 0;                        ///< mean of all absmax
  /// nf4_state(rows, cols, offset): what bitsandbytes keeps beside the tensors, kept here because it is
  /// written as a tensor.
  std::string state;

  std::uint64_t bytes() const {
    return codes.size() + absmax_codes.size() + nested_absmax.size() * sizeof(float) + sizeof(offset);
  }
  std::int64_t blocks() const { return (rows * cols + kBlock - 1) / kBlock; }
  std::int64_t nested_blocks() const { return (blocks() + kNested - 1) / kNested; }
  /// As dequantization uses it.
  float absmax(std::int64_t block) const;
  /// Row `row` as floats; to the bit what bitsandbytes' dequantize_4bit() gives for fp32.
  void dequantize_row(std::int64_t row, std::span<float> out) const;
  /// Throws InputError naming the field if sizes do not fit each other or a factor is not finite.
  void check() const;
};

/// The 16 values of NF4, ascending: quantiles of the normal distribution, scaled to [-1, 1], with an exact 0.
std::span<const float> nf4_values();
/// The 256 values, ascending, that absmax is rounded to after the mean is taken off: bitsandbytes' "dynamic"
/// type, a sign, a decimal exponent and a linear fraction (Dettmers 2015, arXiv:1511.04561). The same floats
/// as its create_dynamic_map().
std::span<const float> nf4_absmax_values();

/// bitsandbytes' description of such a matrix as JSON. `dtype`, what the weights become when they are
/// dequantized, is float32: nothing is lost before the computation's own type. Padded with spaces, so that
/// its length depends on the shape alone.
std::string nf4_state(std::int64_t rows, std::int64_t cols, float offset);

}  // namespace knapsaq
