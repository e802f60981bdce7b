#pragma once

#include <cstdint>
#include <vector>

#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"

namespace knapsaq {

/// The tensors of a model as a checkpoint stores it, each once, sorted by name: dense_tensors() and the
/// weights of matrices(). Everything else that a file may hold (buffers, a second copy of the head) is not
/// part of the model.
std::vector<ExpectedTensor> stored_tensors(const ModelConfig& config);

/// The tensors of a checkpoint that nothing reads, sorted: no part of the model as config.json describes it,
/// so that neither this decoder nor what is written has them. Not among them are those that say nothing of
/// their own: frequencies of rotary positions (rotary_emb.inv_freq, which follow from config.json) and the
/// second copy of a tied head.
std::vector<std::string> unread_tensors(const Checkpoint& checkpoint, const ModelConfig& config);

/// Lines for people about a checkpoint: its own notes, and the names of tensors that nothing reads.
std::vector<std::string> notes_about(const Checkpoint& checkpoint, const ModelConfig& config);

/// Weights of the whole model; a quantized linear counts its weights, not its codes.
std::int64_t parameters(const ModelConfig& config);

/// Average bits per weight of the linears as they are stored, metadata included, bias vectors not.
double linear_bits(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace knapsaq
