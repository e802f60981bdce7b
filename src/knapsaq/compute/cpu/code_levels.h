#pragma once

#include <array>
#include <cstdint>

#include "knapsaq/compute/ggml_matrix.h"

namespace knapsaq::cpu {

/// The values that the codes of a type can have, as a list for lookups: panels hold indices into it.
struct CodeLevels {
  std::array<float, 16> levels{};               ///< ascending; 0 behind the last one
  std::array<std::uint8_t, 16> signed_bytes{};  ///< levels as int8; NF4: 127 level, rounded
  std::array<std::uint8_t, 16> bytes{};         ///< these + zero
  int count = 0;
  int zero = 0;
  std::array<std::uint8_t, 256> index_of{};  ///< of a GGML code, as a byte
};

/// Null for types whose codes are all numbers between two bounds.
const CodeLevels* code_levels(GgmlType type);
const CodeLevels& nf4_levels();

}  // namespace knapsaq::cpu
