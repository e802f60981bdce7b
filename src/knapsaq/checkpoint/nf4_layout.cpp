#include "knapsaq/checkpoint/nf4_layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

using nlohmann::json;

// Ten entries of a few digits each.
constexpr std::size_t kLongestState = 4096;

struct State {
  Nf4Shape shape;
  float offset = 0;
};

std::int64_t size_in(const json& state, const char* key, std::size_t index) {
  constexpr std::int64_t kLargest = std::numeric_limits<std::int32_t>::max();
  const json& list = state.contains(key) ? state[key] : json();
  if (!list.is_array() || list.size() != 2 || !list[index].is_number_integer() ||
      list[index].get<std::int64_t>() < 1 || list[index].get<std::int64_t>() > kLargest)
    throw InputError(fmt::format("its {} is not two sizes", key));
  return list[index].get<std::int64_t>();
}

State parse_state(const TensorView& view) {
  if (view.type != DType::U8 || view.bytes.size() > kLongestState)
    throw InputError("it is not a short text of bytes");
  const json state =
      parse_json(std::string_view(reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size()));
  if (!state.is_object()) throw InputError("it is not a JSON object");
  const auto expect = [&](const char* key, const json& wanted) {
    if (!state.contains(key) || state[key] != wanted)
      throw InputError(fmt::format("its {} is not {}, the only one that Knapsaq reads", key, wanted.dump()));
  };
  expect("quant_type", "nf4");
  expect("blocksize", Nf4Matrix::kBlock);
  expect("nested_blocksize", Nf4Matrix::kNested);
  expect("nested_dtype", "float32");
  if (!state.contains("nested_offset") || !state["nested_offset"].is_number())
    throw InputError("it has no nested_offset");
  const auto offset = static_cast<float>(state["nested_offset"].get<double>());
  if (!std::isfinite(offset)) throw InputError("its nested_offset is beyond fp32");
  return {{size_in(state, "shape", 0), size_in(state, "shape", 1)}, offset};
}

template <class T>
void read_into(std::vector<T>& out, const TensorView& view) {
  out.resize(view.bytes.size() / sizeof(T));
  std::memcpy(out.data(), view.bytes.data(), view.bytes.size());
}

void expect_values(std::span<const float> wanted, const TensorView& view, const std::string& name) {
  if (std::memcmp(wanted.data(), view.bytes.data(), view.bytes.size()) != 0)
    throw InputError(fmt::format(
        "tensor {} has other values than bitsandbytes' own, which Knapsaq does not read", in_quotes(name)));
}

}  // namespace

std::string nf4_state_name(std::string_view module) {
  return std::string(module) + ".weight.quant_state.bitsandbytes__nf4";
}

std::vector<TensorSpec> nf4_tensors(std::string_view module, const Nf4Shape& shape) {
  const std::string weight = std::string(module) + ".weight";
  const std::int64_t weights = shape.rows * shape.cols;
  const std::int64_t blocks = (weights + Nf4Matrix::kBlock - 1) / Nf4Matrix::kBlock;
  const std::int64_t nested = (blocks + Nf4Matrix::kNested - 1) / Nf4Matrix::kNested;
  const auto state = static_cast<std::int64_t>(nf4_state(shape.rows, shape.cols, 0.0f).size());
  return {
      {weight, DType::U8, {(weights + 1) / 2, 1}},       {weight + ".absmax", DType::U8, {blocks}},
      {weight + ".quant_map", DType::F32, {16}},         {weight + ".nested_absmax", DType::F32, {nested}},
      {weight + ".nested_quant_map", DType::F32, {256}}, {nf4_state_name(module), DType::U8, {state}}};
}

std::vector<std::span<const std::byte>> nf4_bytes(const Nf4Matrix& matrix) {
  return {std::as_bytes(std::span(matrix.codes)),
          std::as_bytes(std::span(matrix.absmax_codes)),
          std::as_bytes(nf4_values()),
          std::as_bytes(std::span(matrix.nested_absmax)),
          std::as_bytes(nf4_absmax_values()),
          std::as_bytes(std::span(matrix.state))};
}

Nf4Shape parse_nf4_state(const TensorView& state) { return parse_state(state).shape; }

Nf4Matrix read_nf4(std::string_view module, const Nf4Shape& shape,
                   const std::function<TensorView(const std::string& name)>& tensor) {
  const std::vector<TensorSpec> specs = nf4_tensors(module, shape);
  std::vector<TensorView> views;
  for (const TensorSpec& spec : specs) {
    views.push_back(tensor(spec.name));
    // bitsandbytes pads its description differently.
    const bool any_length = &spec == &specs.back();
    if (views.back().type != spec.type || (!any_length && views.back().shape != spec.shape))
      throw InputError(fmt::format("tensor {} is {} [{}] where nf4 asks for {} [{}]", in_quotes(spec.name),
                                   name_of(views.back().type), fmt::join(views.back().shape, ", "),
                                   name_of(spec.type), fmt::join(spec.shape, ", ")));
  }
  Nf4Matrix matrix;
  matrix.rows = shape.rows;
  matrix.cols = shape.cols;
  read_into(matrix.codes, views[0]);
  read_into(matrix.absmax_codes, views[1]);
  expect_values(nf4_values(), views[2], specs[2].name);
  read_into(matrix.nested_absmax, views[3]);
  expect_values(nf4_absmax_values(), views[4], specs[4].name);
  try {
    const State state = parse_state(views[5]);
    if (state.shape.rows != shape.rows || state.shape.cols != shape.cols)
      throw InputError("its shape is not that of the linear");
    matrix.offset = state.offset;
  } catch (const InputError& error) {
    throw InputError(fmt::format("tensor {}: {}", in_quotes(specs[5].name), error.what()));
  }
  matrix.state = nf4_state(matrix.rows, matrix.cols, matrix.offset);
  try {
    matrix.check();
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", module, error.what()));
  }
  return matrix;
}

}  // namespace knapsaq
