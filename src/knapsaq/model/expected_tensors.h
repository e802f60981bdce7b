#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {

/// A tensor that a decoder of this configuration has, under its canonical name.
struct ExpectedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
};

/// All tensors except the weights of matrices(): norms, biases, positions, OPT's projections.
std::vector<ExpectedTensor> dense_tensors(const ModelConfig& config);

/// Throws InputError, naming the tensor, what is expected and what was found, unless the checkpoint has every
/// tensor that the decoder needs, in the right shape and in a type that weights may have. The matrices may be
/// packed.
void check_shapes(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace knapsaq
