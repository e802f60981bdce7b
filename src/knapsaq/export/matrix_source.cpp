#include "knapsaq/export/matrix_source.h"

#include <optional>
#include <utility>
#include <vector>

#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

QuantizedLinear DirectSource::linear(const Linear& linear, const Scheme& scheme) const {
  const std::string tensor = linear.name + ".weight";
  const std::vector<float> values = checkpoint_.floats(tensor);
  // The pages of the file are not needed beside the floats.
  checkpoint_.release(tensor);
  const MatrixView weights{linear.out, linear.in, values};
  std::optional<InputStatistics> inputs;
  if (inputs_ != nullptr) inputs = inputs_->inputs(linear.name, linear.in);
  StoredMatrix stored = quantize(weights, scheme, inputs ? &*inputs : nullptr);
  const double error = frobenius_error(weights, stored);
  return {std::move(stored), error};
}

QuantizedLinear BankSource::linear(const Linear& linear, const Scheme& scheme) const {
  return {bank_.matrix(linear.name, scheme), bank_.errors(linear.name, scheme).fnorm};
}

}  // namespace knapsaq
