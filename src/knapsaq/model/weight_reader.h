#pragma once

#include <memory>
#include <string>
#include <vector>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/model/folding.h"

namespace knapsaq {

/// Reads tensors of a checkpoint into a backend's memory, with scales folded in, and refuses values that are
/// not finite (InputError, naming the tensor). Both arguments must outlive it.
class WeightReader {
 public:
  WeightReader(const Checkpoint& checkpoint, const Folding& folding)
      : checkpoint_(checkpoint), folding_(folding) {}

  /// A tensor whose values have been checked.
  TensorView tensor(const std::string& name) const;
  std::vector<float> vector(const std::string& name) const;
  std::unique_ptr<Table> table(Backend& backend, const std::string& module) const;
  /// A matrix, dense or quantized, with its bias if it has one.
  std::unique_ptr<Weight> weight(Backend& backend, const std::string& module, bool bias) const;

  /// `where` and `name` are for the message.
  static void check_finite(const TensorView& view, const std::string& where, const std::string& name);

 private:
  void fold(const std::string& name, std::vector<float>& values) const;

  const Checkpoint& checkpoint_;
  const Folding& folding_;
};

}  // namespace knapsaq
