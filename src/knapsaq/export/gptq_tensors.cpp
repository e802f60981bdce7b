#include "knapsaq/export/gptq_tensors.h"

#include <algorithm>

#include <fmt/format.h>

#include "knapsaq/export/integer_zeros.h"
#include "knapsaq/export/words.h"

namespace knapsaq {

ZeroFields zero_fields(std::span<const PlannedLinear> plan) {
  const bool symmetric = std::ranges::all_of(
      plan, [](const PlannedLinear& planned) { return !planned.quantized || planned.form.symmetric; });
  return symmetric ? ZeroFields::minus_one : ZeroFields::plain;
}

std::string gptq_obstacle(const PackedMatrix& matrix) {
  // The packers and kernels of the readers process 32 codes at a time, which fill whole words at every width.
  if (matrix.rows % 32 != 0 || matrix.cols % 32 != 0)
    return fmt::format("its shape [{}, {}] is not in multiples of 32", matrix.rows, matrix.cols);
  if (matrix.cols % matrix.group != 0)
    return fmt::format("its rows of {} weights are not whole groups of {}; use smaller groups or b{}row",
                       matrix.cols, matrix.group, matrix.bits);
  return "";
}

std::vector<TensorSpec> gptq_tensors(const PlannedLinear& planned, bool with_g_idx) {
  const Matrix& linear = planned.linear;
  const AffineForm& form = planned.form;
  const std::int64_t groups = form.group == 0 ? 1 : linear.in / form.group;
  std::vector<TensorSpec> specs{
      {linear.name + ".qweight", DType::I32, {linear.in * form.bits / 32, linear.out}},
      {linear.name + ".qzeros", DType::I32, {groups, linear.out * form.bits / 32}},
      {linear.name + ".scales", DType::F16, {groups, linear.out}}};
  if (with_g_idx) specs.push_back({linear.name + ".g_idx", DType::I32, {linear.in}});
  return specs;
}

void write_gptq(const PackedMatrix& matrix, ZeroFields fields, bool with_g_idx, CheckpointWriter& writer) {
  std::vector<std::uint32_t> words(matrix.codes.size());
  transpose_words(matrix.codes, matrix.rows, matrix.words_per_row(), words);
  writer.write(std::as_bytes(std::span(words)));

  std::vector<std::uint8_t> zeros = integer_zeros(matrix).zeros.zeros;
  if (fields == ZeroFields::minus_one)
    for (std::uint8_t& zero : zeros) --zero;
  const std::vector<std::uint32_t> packed_zeros = pack_zeros(zeros, matrix.rows, matrix.bits);
  writer.write(std::as_bytes(std::span(packed_zeros)));

  const std::int64_t groups = matrix.groups();
  std::vector<std::uint16_t> scales(matrix.scales.size());
  for (std::int64_t r = 0; r < matrix.rows; ++r)
    for (std::int64_t g = 0; g < groups; ++g) scales[g * matrix.rows + r] = matrix.scales[r * groups + g];
  writer.write(std::as_bytes(std::span(scales)));

  if (!with_g_idx) return;
  std::vector<std::int32_t> group_of(static_cast<std::size_t>(matrix.cols));
  for (std::size_t k = 0; k < group_of.size(); ++k) group_of[k] = static_cast<std::int32_t>(k) / matrix.group;
  writer.write(std::as_bytes(std::span(group_of)));
}

}  // namespace knapsaq
