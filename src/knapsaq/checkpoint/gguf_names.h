#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace knapsaq {

/// llama.cpp's name for a module of the Llama family ("model.layers.3.self_attn.q_proj" is "blk.3.attn_q");
/// empty for modules without one. In both naming schemes, tensors are modules with ".weight" or ".bias"
/// appended.
std::optional<std::string> gguf_module(std::string_view module);
/// The same for a tensor: "blk.3.attn_q.weight".
std::optional<std::string> gguf_tensor(std::string_view tensor);
/// The inverse; empty for names that no module of the Llama family has.
std::optional<std::string> module_of_gguf(std::string_view name);

/// The rows of a q or k projection with `heads` heads of `head_dim` rows in llama.cpp's order, as indices of
/// the original rows. llama.cpp's "llama" code rotates adjacent rows where Hugging Face's rotates halves: row
/// 2i + p of a head is the original row p * head_dim / 2 + i.
std::vector<std::int64_t> rotated_rows(std::int64_t heads, std::int64_t head_dim);

}  // namespace knapsaq
