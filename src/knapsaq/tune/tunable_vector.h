#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/compute/tensor.h"

namespace knapsaq {

/// A vector of a model, of a norm or the bias of a linear, as something that can be tuned: start + unit * p,
/// rounded to what the file holds; see TunableMatrix.
class TunableVector {
 public:
  /// `type` is the tensor's (F16, BF16 or F32), `units` one for each value.
  TunableVector(std::string tensor, DType type, std::vector<float> start, std::vector<float> units);

  const std::string& tensor() const { return tensor_; }
  std::size_t parameters() const { return start_.size(); }
  /// Those of the last set().
  const std::vector<float>& values() const { return values_; }

  /// The gradient by the parameters of that by the values.
  void gradient(std::span<const double> by_values, std::span<float> out) const;
  void set(std::span<const float> parameters);

 private:
  std::string tensor_;
  DType type_;
  std::vector<float> start_;
  std::vector<float> units_;
  std::vector<float> values_;
};

}  // namespace knapsaq
