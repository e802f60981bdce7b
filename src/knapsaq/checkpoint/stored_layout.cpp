#include "knapsaq/checkpoint/stored_layout.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

StoredShape shape_of_one(const PackedMatrix& matrix) { return affine_shape(matrix); }
StoredShape shape_of_one(const GgmlMatrix& matrix) {
  return GgmlShape{matrix.rows, matrix.cols, matrix.type};
}
StoredShape shape_of_one(const Nf4Matrix& matrix) { return Nf4Shape{matrix.rows, matrix.cols}; }

std::vector<TensorSpec> tensors_of_one(std::string_view module, const AffineShape& shape) {
  return affine_tensors(module, shape);
}
std::vector<TensorSpec> tensors_of_one(std::string_view module, const GgmlShape& shape) {
  const GgmlTypeInfo& type = info(shape.type);
  return {{std::string(module) + ".weight", DType::U8, {shape.rows, shape.cols / type.block * type.bytes}}};
}
std::vector<TensorSpec> tensors_of_one(std::string_view module, const Nf4Shape& shape) {
  return nf4_tensors(module, shape);
}

std::vector<std::span<const std::byte>> bytes_of_one(const PackedMatrix& matrix) {
  return affine_bytes(matrix);
}
std::vector<std::span<const std::byte>> bytes_of_one(const GgmlMatrix& matrix) { return {matrix.blocks}; }
std::vector<std::span<const std::byte>> bytes_of_one(const Nf4Matrix& matrix) { return nf4_bytes(matrix); }

using Finder = std::function<TensorView(const std::string& name)>;

StoredMatrix read_one(std::string_view module, const AffineShape& shape, const Finder& tensor) {
  return read_affine(module, shape, tensor);
}
StoredMatrix read_one(std::string_view module, const GgmlShape& shape, const Finder& tensor) {
  const TensorSpec spec = tensors_of_one(module, shape).front();
  const TensorView view = tensor(spec.name);
  if (view.type != spec.type || view.shape != spec.shape)
    throw InputError(fmt::format("tensor {} is {} [{}] where {} asks for {} [{}]", in_quotes(spec.name),
                                 name_of(view.type), fmt::join(view.shape, ", "), info(shape.type).name,
                                 name_of(spec.type), fmt::join(spec.shape, ", ")));
  GgmlMatrix matrix{shape.type, shape.rows, shape.cols, {view.bytes.begin(), view.bytes.end()}};
  try {
    matrix.check();
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", module, error.what()));
  }
  return matrix;
}
StoredMatrix read_one(std::string_view module, const Nf4Shape& shape, const Finder& tensor) {
  return read_nf4(module, shape, tensor);
}

}  // namespace

StoredShape shape_of(const StoredMatrix& matrix) {
  return std::visit([](const auto& one) { return shape_of_one(one); }, matrix);
}

std::vector<TensorSpec> tensors_of(std::string_view module, const StoredShape& shape) {
  return std::visit([&](const auto& one) { return tensors_of_one(module, one); }, shape);
}

std::vector<std::span<const std::byte>> bytes_of(const StoredMatrix& matrix) {
  return std::visit([](const auto& one) { return bytes_of_one(one); }, matrix);
}

StoredMatrix read_stored(std::string_view module, const StoredShape& shape, const Finder& tensor) {
  return std::visit([&](const auto& one) { return read_one(module, one, tensor); }, shape);
}

}  // namespace knapsaq
