#pragma once

#include <functional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "knapsaq/checkpoint/gguf_file.h"

namespace knapsaq {

/// A tensor of a model by its name in the file; null if there is none.
using FindGgufTensor = std::function<const GgufTensor*(std::string_view name)>;

/// The config.json that corresponds to a GGUF file's metadata, in Hugging Face's notation, for the
/// architectures llama (LlamaForCausalLM, or MistralForCausalLM if there is a sliding window), qwen2 and
/// qwen3. llama.cpp keeps Llama 3's scaling of positions as RoPE frequency factors (rope_freqs.weight): they
/// become that rule again where they are the factors of published models, and else rope_scaling's type
/// "divisors", for which Hugging Face has no notation. Values are those of the file; parse_model_config()
/// checks them.
///
/// Throws InputError, naming `where` and the key, for an unsupported architecture, a missing key, and
/// features that llama.cpp has for these architectures but Knapsaq does not: experts, other scalings of
/// positions, partial rotary heads.
nlohmann::json config_of_gguf(const GgufMetadata& metadata, const FindGgufTensor& tensor,
                              const std::string& where);

}  // namespace knapsaq
