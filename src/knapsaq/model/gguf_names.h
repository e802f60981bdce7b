#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace knapsaq {

/// The name that llama.cpp has for a module of the Llama family ("model.layers.3.self_attn.q_proj" is
/// "blk.3.attn_q"); empty for modules that it has no name for. Tensors are modules with ".weight" or ".bias"
/// behind, in both worlds.
std::optional<std::string> gguf_module(std::string_view module);

}  // namespace knapsaq
