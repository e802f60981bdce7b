#pragma once

#include <cstdint>

#include "knapsaq/export/engine_memory.h"
#include "knapsaq/family/config.h"

namespace knapsaq {

/// llama.cpp's cache has room for a multiple of so many tokens.
inline constexpr std::int64_t kLlamaCells = 256;

/// Bytes of llama.cpp's activations and logits, as its programs reserve them by default: batches of 2048
/// tokens in parts of 512, logits of every token of a part, one sequence, flash attention (which "auto"
/// chooses wherever the device has it). Three parts:
///  - the compute buffer: the results of the graph of one part, which is laid out here as ggml does it, to
///  the
///    byte (docs/gguf.md says for which models that was compared);
///  - the output buffer: fp32 logits of one token;
///  - what the CPU's products copy of their input into the weights' block format, at most 292/256 bytes a
///  value.
///
/// Throws InputError for an architecture that llama.cpp does not have (gguf_architecture()).
std::uint64_t llama_work_space(const ModelConfig& config, std::int64_t context, const CacheType& cache);

}  // namespace knapsaq
