#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "knapsaq/checkpoint/affine_layout.h"
#include "knapsaq/checkpoint/nf4_layout.h"
#include "knapsaq/compute/ggml_matrix.h"
#include "knapsaq/compute/stored_matrix.h"

namespace knapsaq {

/// How a linear in blocks of a GGML type is stored: one tensor `<m>.weight` U8 [rows, row_bytes]. In
/// config.json, knapsaq.schemes.<m> is the name of the type.
struct GgmlShape {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  GgmlType type = GgmlType::Q8_0;
};

/// How a quantized linear is stored, without its numbers: one alternative for each alternative of
/// StoredMatrix, in the same order.
using StoredShape = std::variant<AffineShape, GgmlShape, Nf4Shape>;

StoredShape shape_of(const StoredMatrix& matrix);
inline std::int64_t rows_of(const StoredShape& shape) {
  return std::visit([](const auto& one) { return one.rows; }, shape);
}
inline std::int64_t cols_of(const StoredShape& shape) {
  return std::visit([](const auto& one) { return one.cols; }, shape);
}

/// The tensors of a linear in the order in which they are written, with exact sizes before anything is
/// quantized. Their names begin with `module`.
std::vector<TensorSpec> tensors_of(std::string_view module, const StoredShape& shape);

/// Their bytes, in the same order; views into `matrix`.
std::vector<std::span<const std::byte>> bytes_of(const StoredMatrix& matrix);

/// Reads a quantized linear through `tensor`, which finds a tensor by its name. The result has passed
/// check(). Throws InputError naming the tensor.
StoredMatrix read_stored(std::string_view module, const StoredShape& shape,
                         const std::function<TensorView(const std::string& name)>& tensor);

}  // namespace knapsaq
