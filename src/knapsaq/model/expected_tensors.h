#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/config.h"

namespace knapsaq {

/// A tensor that a decoder of this configuration has, under its canonical name.
struct ExpectedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
};

/// The two tensors of which a tied model may have only one.
std::string embedding_name(const ModelConfig& config);
inline constexpr std::string_view kHeadName = "lm_head.weight";

/// All tensors but embedding and head and the weights of linears(): norms, biases, positions, OPT's
/// projections.
std::vector<ExpectedTensor> dense_tensors(const ModelConfig& config);

/// Throws InputError, naming the tensor, what is expected and what was found, unless the checkpoint has every
/// tensor that the decoder needs in the right shape and in a type that weights may have. Linears, embedding
/// and head may be packed.
void check_shapes(const Checkpoint& checkpoint, const ModelConfig& config);

/// Throws InputError if the embedding or the head is packed: for what writes models, which carries both
/// dense.
void require_dense_ends(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace knapsaq
