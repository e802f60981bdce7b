#pragma once

#include "knapsaq/bank/bank.h"
#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/stored_matrix.h"
#include "knapsaq/model/config.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// A linear as it is to be written.
struct QuantizedLinear {
  StoredMatrix stored;
  double error = 0;  ///< || W - Q(W) ||_F
};

/// Where the linears of a quantized model come from.
class MatrixSource {
 public:
  virtual ~MatrixSource() = default;
  /// `linear` in `scheme`. Each linear is asked for once, in any order.
  virtual QuantizedLinear linear(const Linear& linear, const Scheme& scheme) const = 0;
};

/// Quantizes when it is asked. In memory at a time: one linear as floats and packed, and its statistics.
class DirectSource final : public MatrixSource {
 public:
  /// Both must outlive this; `inputs` is null if there are no statistics.
  explicit DirectSource(const Checkpoint& checkpoint, const InputSource* inputs = nullptr)
      : checkpoint_(checkpoint), inputs_(inputs) {}
  QuantizedLinear linear(const Linear& linear, const Scheme& scheme) const override;

 private:
  const Checkpoint& checkpoint_;
  const InputSource* inputs_;
};

/// Takes what a bank holds, code for code.
class BankSource final : public MatrixSource {
 public:
  /// The bank must outlive this.
  explicit BankSource(const Bank& bank) : bank_(bank) {}
  QuantizedLinear linear(const Linear& linear, const Scheme& scheme) const override;

 private:
  const Bank& bank_;
};

}  // namespace knapsaq
