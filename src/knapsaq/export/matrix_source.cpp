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
  const auto outputs = weighed_outputs(quantizer(scheme.method), matrix, inputs_, folding_);
  StoredMatrix stored =
      quantize(matrix.name, weights, scheme, inputs ? &*inputs : nullptr, outputs ? &*outputs : nullptr);
  const double error = frobenius_error(weights, stored);
  return {std::move(stored), error};
}

QuantizedMatrix BankSource::matrix(const Matrix& matrix, const Scheme& scheme) const {
  return {bank_.matrix(matrix.name, scheme), bank_.errors(matrix.name, scheme).fnorm};
}

CorrectedSource::CorrectedSource(std::vector<LinearFile> files, std::span<const MatrixScheme> allocation,
                                 std::unique_ptr<const MatrixSource> ends)
    : ends_(std::move(ends)) {
  auto file = files.begin();
  for (const MatrixScheme& one : allocation) {
    if (!one.matrix.in_block()) continue;
    if (file == files.end()) throw std::invalid_argument("CorrectedSource: one file for each linear");
    files_.emplace(one.matrix.name, std::move(*file++));
  }
}

QuantizedMatrix CorrectedSource::matrix(const Matrix& matrix, const Scheme& scheme) const {
  if (!matrix.in_block()) return ends_->matrix(matrix, scheme);
  const LinearFile& file = files_.at(matrix.name);
  if (file.schemes().front() != scheme)
    throw UsageError(fmt::format("{} was quantized as {}, not as {}", matrix.name,
                                 to_string(file.schemes().front()), to_string(scheme)));
  return {file.matrix(0), file.errors(0).fnorm};
}

}  // namespace knapsaq
