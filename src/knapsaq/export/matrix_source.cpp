#include "knapsaq/export/matrix_source.h"

#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "knapsaq/bank/folded_inputs.h"
#include "knapsaq/base/error.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

QuantizedMatrix DirectSource::matrix(const Matrix& matrix, const Scheme& scheme) const {
  const std::string tensor = matrix.name + ".weight";
  std::vector<float> values = checkpoint_.floats(tensor);
  // The file's pages are not needed in addition to the floats.
  checkpoint_.release(tensor);
  if (folding_ != nullptr) folding_->apply(tensor, values);
  const MatrixView weights{matrix.out, matrix.in, values};
  std::optional<InputStatistics> inputs;
  if (inputs_ != nullptr)
    inputs = matrix.is_multiplied() ? inputs_->inputs(matrix.name, matrix.in)
                                    : columns_alike(matrix.name, matrix.in);
  if (inputs && folding_ != nullptr) inputs = scaled(*std::move(inputs), folding_->input_scales(matrix.name));
  StoredMatrix stored = quantize(matrix.name, weights, scheme, inputs ? &*inputs : nullptr);
  const double error = frobenius_error(weights, stored);
  return {std::move(stored), error};
}

QuantizedMatrix BankSource::matrix(const Matrix& matrix, const Scheme& scheme) const {
  return {bank_.matrix(matrix.name, scheme), bank_.errors(matrix.name, scheme).fnorm};
}

PropagatedSource::PropagatedSource(const Checkpoint& checkpoint, const ModelConfig& config,
                                   std::vector<LinearFile> files)
    : checkpoint_(checkpoint) {
  const std::vector<Matrix> all = linears(config);
  if (files.size() != all.size()) throw std::invalid_argument("PropagatedSource: one file for each linear");
  for (std::size_t i = 0; i < all.size(); ++i) files_.emplace(all[i].name, std::move(files[i]));
}

QuantizedMatrix PropagatedSource::matrix(const Matrix& matrix, const Scheme& scheme) const {
  if (!matrix.in_block()) {
    std::vector<float> values = checkpoint_.floats(matrix.name + ".weight");
    checkpoint_.release(matrix.name + ".weight");
    const MatrixView weights{matrix.out, matrix.in, values};
    const bool moments = quantizer(scheme.method).needs() == Needs::second_moments;
    const InputStatistics alike = columns_alike(matrix.name, matrix.in, moments);
    StoredMatrix stored = quantize(matrix.name, weights, scheme, &alike);
    const double error = frobenius_error(weights, stored);
    return {std::move(stored), error};
  }
  const LinearFile& file = files_.at(matrix.name);
  if (file.schemes().front() != scheme)
    throw UsageError(fmt::format("{} was quantized as {}, not as {}", matrix.name,
                                 to_string(file.schemes().front()), to_string(scheme)));
  return {file.matrix(0), file.errors(0).fnorm};
}

}  // namespace knapsaq
