#include "knapsaq/checkpoint/affine_layout.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"

namespace knapsaq {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "numbers go to and from files as they are");

/// A positive integer of a module's entry or of the defaults; 0 if neither has it.
std::int64_t whole_number(const json& entry, const json& defaults, const char* key) {
  for (const json* source : {&entry, &defaults}) {
    if (!source->is_object() || !source->contains(key)) continue;
    const json& value = (*source)[key];
    if (!value.is_number_integer() || value < 1 || value > std::numeric_limits<int>::max())
      throw InputError(fmt::format("{} is {}, not a positive whole number", key, in_quotes(value.dump())));
    return value.get<std::int64_t>();
  }
  return 0;
}

template <class Number>
void read_into(std::vector<Number>& out, const TensorView& tensor) {
  out.resize(tensor.bytes.size() / sizeof(Number));
  if (!out.empty()) std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
}

}  // namespace

int AffineShape::effective_group() const {
  // A row longer than an int's range is refused earlier (parse_affine_config) or cannot be held.
  return group == 0 || group > cols ? static_cast<int>(cols) : group;
}

std::int64_t AffineShape::groups() const { return (cols + effective_group() - 1) / effective_group(); }

std::int64_t AffineShape::words_per_row() const { return (cols * bits + 31) / 32; }

AffineShape affine_shape(const PackedMatrix& matrix) {
  return {matrix.rows, matrix.cols, matrix.bits, matrix.group, matrix.meta_bits, matrix.meta_group};
}

std::vector<TensorSpec> affine_tensors(std::string_view module, const AffineShape& shape) {
  const std::string prefix(module);
  const std::vector<std::int64_t> per_group{shape.rows, shape.groups()};
  std::vector<TensorSpec> tensors{{prefix + ".weight", DType::U32, {shape.rows, shape.words_per_row()}}};
  if (shape.meta_bits == 16) {
    tensors.push_back({prefix + ".scales", DType::F16, per_group});
    tensors.push_back({prefix + ".biases", DType::F16, per_group});
  } else {
    const std::int64_t pairs = (shape.rows * shape.groups() + shape.meta_group - 1) / shape.meta_group;
    tensors.push_back({prefix + ".scales", DType::U8, per_group});
    tensors.push_back({prefix + ".zeros", DType::U8, per_group});
    tensors.push_back({prefix + ".scale_steps", DType::F16, {pairs}});
    tensors.push_back({prefix + ".scale_mins", DType::F16, {pairs}});
  }
  return tensors;
}

std::vector<std::span<const std::byte>> affine_bytes(const PackedMatrix& matrix) {
  const auto bytes = [](const auto& values) { return std::as_bytes(std::span(values)); };
  if (matrix.meta_bits == 16) return {bytes(matrix.codes), bytes(matrix.scales), bytes(matrix.biases)};
  return {bytes(matrix.codes), bytes(matrix.scale_codes), bytes(matrix.zero_codes), bytes(matrix.scale_steps),
          bytes(matrix.scale_mins)};
}

json affine_config(const AffineShape& shape) {
  json entry{{"group_size", shape.effective_group()}, {"bits", shape.bits}, {"mode", "affine"}};
  if (shape.cols * shape.bits % 32 != 0) entry["in_features"] = shape.cols;
  if (shape.meta_bits != 16) {
    entry["meta_bits"] = shape.meta_bits;
    entry["meta_group_size"] = shape.meta_group;
  }
  return entry;
}

AffineShape parse_affine_config(const json& entry, const json& defaults, const TensorView& weight) {
  const json& mode = entry.is_object() && entry.contains("mode") ? entry["mode"]
                     : defaults.contains("mode")                 ? defaults["mode"]
                                                                 : json("affine");
  if (mode != "affine")
    throw InputError(
        fmt::format("its quantization mode is {}; only affine is supported", in_quotes(mode.dump())));
  AffineShape shape;
  shape.bits = static_cast<int>(whole_number(entry, defaults, "bits"));
  if (!is_affine_width(shape.bits))
    throw InputError(fmt::format("it has {} bits; 2, 3, 4, 5, 6 and 8 are supported", shape.bits));
  const std::int64_t group = whole_number(entry, defaults, "group_size");
  if (group == 0) throw InputError("it has no group_size");
  if (weight.type != DType::U32 || weight.shape.size() != 2 || weight.elements() == 0)
    throw InputError(fmt::format("its codes are {} [{}], not U32 with two dimensions", name_of(weight.type),
                                 fmt::join(weight.shape, ", ")));
  shape.rows = weight.shape[0];
  const std::int64_t words = weight.shape[1];
  shape.cols = whole_number(entry, json::object(), "in_features");
  if (shape.cols == 0) {
    if (words * 32 % shape.bits != 0)
      throw InputError(
          fmt::format("its rows of {} words are no whole number of {}-bit codes, and it has no "
                      "in_features",
                      words, shape.bits));
    shape.cols = words * 32 / shape.bits;
  }
  if (shape.cols > std::numeric_limits<int>::max() || shape.words_per_row() != words)
    throw InputError(fmt::format("its rows have {} words, which is not what {} codes of {} bits take", words,
                                 shape.cols, shape.bits));
  shape.group = group >= shape.cols ? 0 : static_cast<int>(group);
  const std::int64_t meta_bits = whole_number(entry, json::object(), "meta_bits");
  if (meta_bits != 0) {
    if (meta_bits != 8) throw InputError(fmt::format("its meta_bits are {}; 8 is supported", meta_bits));
    shape.meta_bits = 8;
    shape.meta_group = static_cast<int>(whole_number(entry, json::object(), "meta_group_size"));
    if (shape.meta_group == 0) throw InputError("it has meta_bits but no meta_group_size");
  }
  return shape;
}

PackedMatrix read_affine(std::string_view module, const AffineShape& shape,
                         const std::function<TensorView(const std::string& name)>& tensor) {
  PackedMatrix matrix;
  matrix.rows = shape.rows;
  matrix.cols = shape.cols;
  matrix.bits = shape.bits;
  matrix.group = shape.effective_group();
  matrix.meta_bits = shape.meta_bits;
  matrix.meta_group = shape.meta_group;

  const std::vector<TensorSpec> specs = affine_tensors(module, shape);
  std::vector<TensorView> views;
  for (const TensorSpec& spec : specs) {
    views.push_back(tensor(spec.name));
    if (views.back().type != spec.type || views.back().shape != spec.shape)
      throw InputError(fmt::format("tensor {} is {} [{}] where config.json's quantization asks for {} [{}]",
                                   in_quotes(spec.name), name_of(views.back().type),
                                   fmt::join(views.back().shape, ", "), name_of(spec.type),
                                   fmt::join(spec.shape, ", ")));
  }
  read_into(matrix.codes, views[0]);
  if (shape.meta_bits == 16) {
    read_into(matrix.scales, views[1]);
    read_into(matrix.biases, views[2]);
  } else {
    read_into(matrix.scale_codes, views[1]);
    read_into(matrix.zero_codes, views[2]);
    read_into(matrix.scale_steps, views[3]);
    read_into(matrix.scale_mins, views[4]);
  }
  try {
    matrix.check();
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", module, error.what()));
  }
  return matrix;
}

}  // namespace knapsaq
