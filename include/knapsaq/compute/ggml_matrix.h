#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace knapsaq {

/// GGML's tensor types that hold weights in blocks; the numbers are those of GGUF files.
enum class GgmlType : std::uint8_t {
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q2_K = 10,
  Q3_K = 11,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  IQ2_XXS = 16,
  IQ2_XS = 17,
  IQ3_XXS = 18,
  IQ1_S = 19,
  IQ4_NL = 20,
  IQ3_S = 21,
  IQ2_S = 22,
  IQ4_XS = 23,
  IQ1_M = 29,
  Q2_0 = 42,
};

/// A type's fixed facts.
struct GgmlTypeInfo {
  GgmlType type;
  std::string_view name;  ///< in lower case, as schemes spell it: "q4_k"
  int bits;               ///< of a code; for the IQ types those of their names
  int block;              ///< consecutive weights of a row that share a block; rows are whole blocks
  int bytes;              ///< of a block
};

std::span<const GgmlTypeInfo> ggml_types();
const GgmlTypeInfo& info(GgmlType type);
/// Empty for a name that is none of them.
std::optional<GgmlType> parse_ggml_type(std::string_view name);

/// A weight matrix W[rows, cols] in blocks of a GGML type, byte for byte as GGUF files hold it.
struct GgmlMatrix {
  GgmlType type = GgmlType::Q8_0;
  std::int64_t rows = 0;          ///< out
  std::int64_t cols = 0;          ///< in; a multiple of info(type).block
  std::vector<std::byte> blocks;  ///< [rows, row_bytes()]

  std::uint64_t bytes() const { return blocks.size(); }
  std::int64_t row_bytes() const { return cols / info(type).block * info(type).bytes; }
  /// Row `row` as floats; to the bit what gguf-py's dequantize() gives.
  void dequantize_row(std::int64_t row, std::span<float> out) const;
  /// Throws InputError naming the field if sizes do not fit each other or a block's factor is not finite.
  void check() const;
};

}  // namespace knapsaq
