#pragma once

#include <functional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "knapsaq/checkpoint/gguf_file.h"

namespace knapsaq {

/// A tensor of a model by its name in the file; null if there is none.
using FindGgufTensor = std::function<const GgufTensor*(std::string_view name)>;

/// What config.json would say of the model in a GGUF file, in Hugging Face's spelling; for the architectures
/// llama (LlamaForCausalLM, or MistralForCausalLM where there is a sliding window), qwen2 and qwen3. One
/// thing has no such spelling: the RoPE frequency factors of rope_freqs.weight, in which llama.cpp keeps
/// Llama 3's scaling, become rope_scaling's type "divisors". Values are those of the file;
/// parse_model_config() checks them.
///
/// Throws InputError, naming `where` and the key, for an architecture that is not supported, a key that is
/// missing, and what these architectures may have in llama.cpp but not here: experts, other scalings of
/// positions, rotation of a part of the head.
nlohmann::json config_of_gguf(const GgufMetadata& metadata, const FindGgufTensor& tensor,
                              const std::string& where);

}  // namespace knapsaq
