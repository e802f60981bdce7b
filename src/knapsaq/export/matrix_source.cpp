#include "knapsaq/export/matrix_source.h"

#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "knapsaq/bank/folded_inputs.h"
#include "knapsaq/base/error.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

QuantizedLinear DirectSource::linear(const Linear& linear, const Scheme& scheme) const {
  const std::string tensor = linear.name + ".weight";
  std::vector<float> values = checkpoint_.floats(tensor);
  // The pages of the file are not needed beside the floats.
  checkpoint_.release(tensor);
  if (folding_ != nullptr) folding_->apply(tensor, values);
  const MatrixView weights{linear.out, linear.in, values};
  std::optional<InputStatistics> inputs;
  if (inputs_ != nullptr) inputs = inputs_->inputs(linear.name, linear.in);
  if (inputs && folding_ != nullptr) inputs = scaled(*std::move(inputs), folding_->input_scales(linear.name));
  StoredMatrix stored = quantize(linear.name, weights, scheme, inputs ? &*inputs : nullptr);
  const double error = frobenius_error(weights, stored);
  return {std::move(stored), error};
}

QuantizedLinear BankSource::linear(const Linear& linear, const Scheme& scheme) const {
  return {bank_.matrix(linear.name, scheme), bank_.errors(linear.name, scheme).fnorm};
}

PropagatedSource::PropagatedSource(const ModelConfig& config, std::vector<LinearFile> files) {
  const std::vector<Linear> all = linears(config);
  if (files.size() != all.size()) throw std::invalid_argument("PropagatedSource: one file for each linear");
  for (std::size_t i = 0; i < all.size(); ++i) files_.emplace(all[i].name, std::move(files[i]));
}

QuantizedLinear PropagatedSource::linear(const Linear& linear, const Scheme& scheme) const {
  const LinearFile& file = files_.at(linear.name);
  if (file.schemes().front() != scheme)
    throw UsageError(fmt::format("{} was quantized as {}, not as {}", linear.name,
                                 to_string(file.schemes().front()), to_string(scheme)));
  return {file.matrix(0), file.errors(0).fnorm};
}

}  // namespace knapsaq
