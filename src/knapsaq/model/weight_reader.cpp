#include "knapsaq/model/weight_reader.h"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/threads.h"

namespace knapsaq {
namespace {

[[noreturn]] void fail(const std::string& where, const std::string& name, float value, std::int64_t index) {
  throw InputError(fmt::format("{}: tensor '{}' holds {} at index {}; the model cannot be used", where, name,
                               std::isnan(value) ? "NaN" : "an infinity", index));
}

}  // namespace

TensorView WeightReader::tensor(const std::string& name) const {
  TensorView view = checkpoint_.tensor(name);
  check_finite(view, checkpoint_.folder().string(), name);
  return view;
}

std::vector<float> WeightReader::vector(const std::string& name) const {
  std::vector<float> values = read_floats(tensor(name));
  if (folding_.touches(name)) fold(name, values);
  return values;
}

std::unique_ptr<Table> WeightReader::table(Backend& backend, const std::string& module) const {
  if (checkpoint_.packing(module)) return backend.prepare_table(checkpoint_.stored(module));
  std::unique_ptr<Table> table = backend.prepare_table(tensor(module + ".weight"));
  checkpoint_.release(module + ".weight");
  return table;
}

std::unique_ptr<Weight> WeightReader::weight(Backend& backend, const std::string& module, bool bias) const {
  const std::vector<float> biases = bias ? vector(module + ".bias") : std::vector<float>();
  const std::string name = module + ".weight";
  if (checkpoint_.packing(module)) {
    if (folding_.touches(name))
      throw InputError(fmt::format("{}: '{}' is quantized already; scales cannot be folded into it",
                                   checkpoint_.folder().string(), module));
    return backend.prepare(checkpoint_.stored(module), biases);
  }
  const TensorView dense = tensor(name);
  std::unique_ptr<Weight> weight;
  if (folding_.touches(name)) {
    const std::vector<float> values = vector(name);
    weight = backend.prepare({DType::F32, dense.shape, std::as_bytes(std::span(values))}, biases);
  } else {
    weight = backend.prepare(dense, biases);
  }
  checkpoint_.release(name);
  return weight;
}

void WeightReader::check_finite(const TensorView& view, const std::string& where, const std::string& name) {
  // Pieces small enough for a cache, large enough that the loop over them costs nothing.
  constexpr std::int64_t kPiece = 1 << 16;
  const std::int64_t elements = view.elements();
  parallel_for(static_cast<std::size_t>((elements + kPiece - 1) / kPiece), [&](std::size_t index) {
    const std::int64_t first = static_cast<std::int64_t>(index) * kPiece;
    std::vector<float> values(static_cast<std::size_t>(std::min(kPiece, elements - first)));
    read_floats(view, first, values);
    if (const auto bad = first_not_finite(values))
      fail(where, name, values[*bad], first + static_cast<std::int64_t>(*bad));
  });
}

/// As the folded tensor is written: in its type in the checkpoint.
void WeightReader::fold(const std::string& name, std::vector<float>& values) const {
  folding_.apply(name, values);
  const DType type = checkpoint_.tensor(name).type;
  if (type == DType::F32) return;
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = type == DType::F16 ? half_to_float(float_to_half(values[i]))
                                   : bfloat16_to_float(float_to_bfloat16(values[i]));
    if (!std::isfinite(values[i]))
      fail(checkpoint_.folder().string(), name + " with scales folded in", values[i],
           static_cast<std::int64_t>(i));
  }
}

}  // namespace knapsaq
