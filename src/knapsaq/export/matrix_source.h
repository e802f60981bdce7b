#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/bank/bank.h"
#include "knapsaq/bank/linear_file.h"
#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/stored_matrix.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/folding.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// A matrix to write.
struct QuantizedMatrix {
  StoredMatrix stored;
  double error = 0;  ///< || W - Q(W) ||_F
};

/// The source of the matrices of a quantized model.
class MatrixSource {
 public:
  virtual ~MatrixSource() = default;
  /// `matrix` in `scheme`. Each matrix is requested once, in any order.
  virtual QuantizedMatrix matrix(const Matrix& matrix, const Scheme& scheme) const = 0;
  /// Scales that are folded into the matrices and must be folded into the model's other tensors; null if
  /// there are none.
  virtual const Folding* folding() const { return nullptr; }
};

/// Quantizes on request. In memory at a time: one matrix as floats and packed, and its statistics.
class DirectSource final : public MatrixSource {
 public:
  /// All arguments must outlive this. `inputs` is null if there are no statistics, `folding` if there is
  /// none. The statistics are those of the inputs without folding.
  explicit DirectSource(const Checkpoint& checkpoint, const InputSource* inputs = nullptr,
                        const Folding* folding = nullptr)
      : checkpoint_(checkpoint), inputs_(inputs), folding_(folding) {}
  QuantizedMatrix matrix(const Matrix& matrix, const Scheme& scheme) const override;
  const Folding* folding() const override { return folding_; }

 private:
  const Checkpoint& checkpoint_;
  const InputSource* inputs_;
  const Folding* folding_;
};

/// Returns the content of a bank, code for code.
class BankSource final : public MatrixSource {
 public:
  /// The bank must outlive this. Throws InputError if its folding is missing or damaged.
  BankSource(const Bank& bank, const ModelConfig& config) : bank_(bank), folding_(bank.folding(config)) {}
  QuantizedMatrix matrix(const Matrix& matrix, const Scheme& scheme) const override;
  const Folding* folding() const override { return folding_.empty() ? nullptr : &folding_; }

 private:
  const Bank& bank_;
  Folding folding_;
};

/// Returns the results of correct_codes(), and what another source has of embedding and head.
class CorrectedSource final : public MatrixSource {
 public:
  /// `files`: one for each linear of the blocks in `allocation`, in its order. `ends` has the folding, if the
  /// codes were made with one.
  CorrectedSource(std::vector<LinearFile> files, std::span<const MatrixScheme> allocation,
                  std::unique_ptr<const MatrixSource> ends);
  QuantizedMatrix matrix(const Matrix& matrix, const Scheme& scheme) const override;
  const Folding* folding() const override { return ends_->folding(); }

 private:
  std::unique_ptr<const MatrixSource> ends_;
  std::map<std::string, LinearFile, std::less<>> files_;  ///< by the linear's name
};

}  // namespace knapsaq
