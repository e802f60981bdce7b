#pragma once

#include <cstdint>
#include <span>
#include <variant>

#include "knapsaq/compute/ggml_matrix.h"
#include "knapsaq/compute/nf4_matrix.h"
#include "knapsaq/compute/packed_matrix.h"

namespace knapsaq {

/// One quantized linear, in any of the forms in which Knapsaq stores them. A new form is one alternative here
/// and one layout in checkpoint/stored_layout.h.
using StoredMatrix = std::variant<PackedMatrix, GgmlMatrix, Nf4Matrix>;

inline std::int64_t rows_of(const StoredMatrix& matrix) {
  return std::visit([](const auto& one) { return one.rows; }, matrix);
}
inline std::int64_t cols_of(const StoredMatrix& matrix) {
  return std::visit([](const auto& one) { return one.cols; }, matrix);
}
/// Bytes of all its vectors.
inline std::uint64_t memory_of(const StoredMatrix& matrix) {
  return std::visit([](const auto& one) { return one.bytes(); }, matrix);
}
/// Row `row` as floats, out.size() == cols.
inline void dequantize_row(const StoredMatrix& matrix, std::int64_t row, std::span<float> out) {
  std::visit([&](const auto& one) { one.dequantize_row(row, out); }, matrix);
}
/// Throws InputError if sizes do not fit each other or a factor is not finite. Call it on whatever came from
/// a file before anything else.
inline void check(const StoredMatrix& matrix) {
  std::visit([](const auto& one) { one.check(); }, matrix);
}

}  // namespace knapsaq
