#include "knapsaq/model/gguf_names.h"

#include <algorithm>
#include <array>
#include <utility>

namespace knapsaq {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;

// gguf-py's tensor_mapping.py has the same pairs.
constexpr std::array<Pair, 3> kOutside{
    {{"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}}};
constexpr std::array<Pair, 11> kInside{{{"input_layernorm", "attn_norm"},
                                        {"self_attn.q_proj", "attn_q"},
                                        {"self_attn.k_proj", "attn_k"},
                                        {"self_attn.v_proj", "attn_v"},
                                        {"self_attn.o_proj", "attn_output"},
                                        {"self_attn.q_norm", "attn_q_norm"},
                                        {"self_attn.k_norm", "attn_k_norm"},
                                        {"post_attention_layernorm", "ffn_norm"},
                                        {"mlp.gate_proj", "ffn_gate"},
                                        {"mlp.up_proj", "ffn_up"},
                                        {"mlp.down_proj", "ffn_down"}}};

}  // namespace

std::optional<std::string> gguf_module(std::string_view module) {
  const auto* outside = std::ranges::find(kOutside, module, &Pair::first);
  if (outside != kOutside.end()) return std::string(outside->second);
  constexpr std::string_view kLayers = "model.layers.";
  if (!module.starts_with(kLayers)) return std::nullopt;
  module.remove_prefix(kLayers.size());
  const std::size_t digits = std::min(module.find_first_not_of("0123456789"), module.size());
  if (digits == 0 || digits == module.size() || module[digits] != '.') return std::nullopt;
  const auto* inside = std::ranges::find(kInside, module.substr(digits + 1), &Pair::first);
  if (inside == kInside.end()) return std::nullopt;
  return "blk." + std::string(module.substr(0, digits)) + "." + std::string(inside->second);
}

}  // namespace knapsaq
