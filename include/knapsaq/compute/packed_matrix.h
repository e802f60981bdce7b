#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace knapsaq {

/// Bits of the codes of an affine matrix: MLX's.
inline constexpr std::array<int, 6> kAffineWidths = {2, 3, 4, 5, 6, 8};
constexpr bool is_affine_width(std::int64_t bits) { return bits >= 2 && bits <= 8 && bits != 7; }

/// A weight matrix W[rows, cols] in the affine group format: every `group` consecutive weights of a row share
/// a scale s and a bias c, and W ~ s * u + c with codes u in [0, 2^bits). (With a zero point z: c = -s * z.)
///
/// This is MLX's affine layout. The second level (meta_bits = 8) is Knapsaq's documented extension: there
///   s = scale_mins[j] + scale_steps[j] * scale_codes[i],   z = zero_codes[i] * (2^bits - 1) / 255,
/// with i the group's index (row * groups() + g) and j = i / meta_group, so that the metadata takes
/// 2 * 8 / group + 32 / (group * meta_group) bits per weight: MXQ's Equation 2 to the bit.
struct PackedMatrix {
  std::int64_t rows = 0;  ///< out
  std::int64_t cols = 0;  ///< in
  int bits = 0;           ///< one of kAffineWidths
  int group = 0;          ///< weights that share a scale; the last group of a row may be shorter; <= cols

  /// [rows, words_per_row()]: each row a dense little-endian bitstream, code k in bits [bits*k, bits*(k+1)),
  /// padded with zero bits to a whole word.
  std::vector<std::uint32_t> codes;

  /// First level, when meta_bits == 16: IEEE binary16, [rows, groups()] each.
  std::vector<std::uint16_t> scales;
  std::vector<std::uint16_t> biases;

  int meta_bits = 16;  ///< 16 or 8
  int meta_group = 0;  ///< groups that share one pair (step, min); 0 when meta_bits == 16
  /// Second level, when meta_bits == 8: [rows, groups()] codes each, and one binary16 pair per meta_group
  /// groups.
  std::vector<std::uint8_t> scale_codes;
  std::vector<std::uint8_t> zero_codes;
  std::vector<std::uint16_t> scale_steps;
  std::vector<std::uint16_t> scale_mins;

  std::int64_t groups() const { return (cols + group - 1) / group; }  ///< per row
  std::int64_t words_per_row() const { return (cols * bits + 31) / 32; }
  std::int64_t meta_groups() const;  ///< pairs of the second level
  /// Bytes of all vectors: what the tensors of this matrix take on disk.
  std::uint64_t bytes() const;

  /// Scale and bias of group g of row r, as dequantize() uses them.
  struct Affine {
    float scale;
    float bias;
  };
  Affine affine(std::int64_t row, std::int64_t g) const;

  /// Row `row` as floats: s * u + c in fp32, one rounding for the product and one for the sum.
  void dequantize_row(std::int64_t row, std::span<float> out) const;

  /// Throws InputError naming the field if a size or width does not fit the others. Call it on whatever came
  /// from a file before anything else.
  void check() const;
};

/// Packs `codes` (each < 2^bits) into the dense bitstream; out has ceil(codes.size() * bits / 32) words.
void pack_codes(std::span<const std::uint8_t> codes, int bits, std::span<std::uint32_t> out);
/// The exact inverse; out.size() codes are read.
void unpack_codes(std::span<const std::uint32_t> words, int bits, std::span<std::uint8_t> out);

}  // namespace knapsaq
