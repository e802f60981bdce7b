#pragma once

#include <cstdint>
#include <vector>

#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"

namespace knapsaq {

/// The tensors of a model as a checkpoint stores it, each once, sorted by name: dense_tensors() and the
/// weights of matrices(). Other contents of a file (buffers, a second copy of the head) are not part of the
/// model.
std::vector<ExpectedTensor> stored_tensors(const ModelConfig& config);

/// The tensors of a checkpoint that are carried to every output in Hugging Face layout as they are, sorted:
/// of a multimodal model all that is not the language model, and what the family names (Family::carried).
std::vector<std::string> carried_tensors(const Checkpoint& checkpoint, const ModelConfig& config);

/// The unused tensors of a checkpoint, sorted: they are not part of the model described by config.json, so
/// the decoder does not read them and writers do not write them. Not included are carried_tensors(), and
/// tensors without information of their own: frequencies of rotary positions (rotary_emb.inv_freq) and masks
/// of attention (attention.bias), which follow from config.json, and the second copy of a tied head.
std::vector<std::string> unread_tensors(const Checkpoint& checkpoint, const ModelConfig& config);

/// Notes for people about a checkpoint: its own notes, and the names of unused tensors.
std::vector<std::string> notes_about(const Checkpoint& checkpoint, const ModelConfig& config);

/// Number of weights of the whole model; a quantized linear counts its weights, not its codes.
std::int64_t parameters(const ModelConfig& config);

/// Average bits per weight of the linears as they are stored, including metadata, excluding bias vectors.
double linear_bits(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace knapsaq
