#include "knapsaq/bank/folded_inputs.h"

#include <utility>

#include "knapsaq/base/threads.h"

namespace knapsaq {

InputStatistics scaled(InputStatistics inputs, std::span<const float> scales) {
  if (scales.empty()) return inputs;
  const std::size_t width = scales.size();
  for (std::size_t k = 0; k < width; ++k) inputs.mean_square[k] /= scales[k] * scales[k];
  // Empty if they are unknown.
  for (std::size_t k = 0; k < inputs.mean_abs.size(); ++k) inputs.mean_abs[k] /= scales[k];
  for (std::size_t k = 0; k < inputs.max_abs.size(); ++k) inputs.max_abs[k] /= scales[k];
  if (!inputs.second_moment.empty()) {
    parallel_for(width, [&](std::size_t row) {
      float* const values = inputs.second_moment.data() + row * width;
      // One division by the product, which is the same for [k, row]: the matrix stays symmetric.
      for (std::size_t k = 0; k < width; ++k) values[k] /= scales[row] * scales[k];
    });
  }
  return inputs;
}

std::vector<float> scales_of_outputs(const Folding* folding, const Matrix& linear) {
  const std::string bias = linear.name + ".bias";
  if (folding == nullptr || !folding->touches(bias)) return {};
  // A bias is divided like the outputs.
  std::vector<float> scales(static_cast<std::size_t>(linear.out), 1.0f);
  folding->apply(bias, scales);
  for (float& scale : scales) scale = 1 / scale;
  return scales;
}

OutputStatistics of_divided_outputs(OutputStatistics outputs, std::span<const float> scales) {
  if (scales.empty()) return outputs;
  const std::size_t width = scales.size();
  for (std::size_t k = 0; k < width; ++k) outputs.mean_square[k] *= scales[k] * scales[k];
  if (!outputs.second_moment.empty()) {
    parallel_for(width, [&](std::size_t row) {
      float* const values = outputs.second_moment.data() + row * width;
      for (std::size_t k = 0; k < width; ++k) values[k] *= scales[row] * scales[k];
    });
  }
  return outputs;
}

std::optional<OutputStatistics> weighed_outputs(const Quantizer& method, const Matrix& linear,
                                                const InputSource* inputs, const Folding* folding) {
  if (inputs == nullptr || linear.is_looked_up() || !method.uses_outputs()) return {};
  std::optional<OutputStatistics> outputs = inputs->outputs(linear.name, linear.out);
  if (outputs) outputs = of_divided_outputs(*std::move(outputs), scales_of_outputs(folding, linear));
  return outputs;
}

InputStatistics FoldedInputs::inputs(std::string_view matrix, std::int64_t width) const {
  return scaled(source_.inputs(matrix, width), folding_.input_scales(matrix));
}

}  // namespace knapsaq
