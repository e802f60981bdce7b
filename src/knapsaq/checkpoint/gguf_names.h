#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace knapsaq {

/// The name that llama.cpp has for a module of the Llama family ("model.layers.3.self_attn.q_proj" is
/// "blk.3.attn_q"); empty for modules that it has no name for. Tensors are modules with ".weight" or ".bias"
/// behind, in both worlds.
std::optional<std::string> gguf_module(std::string_view module);
/// The way back; empty for names that no module of the Llama family has.
std::optional<std::string> module_of_gguf(std::string_view name);

/// The rows of a q or k projection with `heads` heads of `head_dim` rows in llama.cpp's order, as the numbers
/// of the rows they come from. Its "llama" code rotates neighbours where Hugging Face's rotates halves: row
/// 2i + p of a head is the original p * head_dim / 2 + i.
std::vector<std::int64_t> rotated_rows(std::int64_t heads, std::int64_t head_dim);

}  // namespace knapsaq
