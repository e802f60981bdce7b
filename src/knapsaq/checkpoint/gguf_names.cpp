#include "knapsaq/checkpoint/gguf_names.h"

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

using Name = std::string_view Pair::*;

constexpr std::string_view kLayers = "model.layers.";
constexpr std::string_view kBlocks = "blk.";

/// The other name of a module, of which `from` is known; `before` and `instead` are the prefixes of a layer's
/// number in the two naming schemes.
std::optional<std::string> translate(std::string_view module, Name from, Name to, std::string_view before,
                                     std::string_view instead) {
  const auto* outside = std::ranges::find(kOutside, module, from);
  if (outside != kOutside.end()) return std::string(outside->*to);
  if (!module.starts_with(before)) return std::nullopt;
  module.remove_prefix(before.size());
  const std::size_t digits = std::min(module.find_first_not_of("0123456789"), module.size());
  if (digits == 0 || digits == module.size() || module[digits] != '.') return std::nullopt;
  const auto* inside = std::ranges::find(kInside, module.substr(digits + 1), from);
  if (inside == kInside.end()) return std::nullopt;
  return std::string(instead) + std::string(module.substr(0, digits)) + "." + std::string(inside->*to);
}

}  // namespace

std::optional<std::string> gguf_module(std::string_view module) {
  return translate(module, &Pair::first, &Pair::second, kLayers, kBlocks);
}

std::optional<std::string> gguf_tensor(std::string_view tensor) {
  const std::size_t dot = tensor.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  auto name = gguf_module(tensor.substr(0, dot));
  if (name) name->append(tensor.substr(dot));
  return name;
}

std::optional<std::string> module_of_gguf(std::string_view name) {
  return translate(name, &Pair::second, &Pair::first, kBlocks, kLayers);
}

std::vector<std::int64_t> rotated_rows(std::int64_t heads, std::int64_t head_dim) {
  std::vector<std::int64_t> rows;
  rows.reserve(static_cast<std::size_t>(heads * head_dim));
  for (std::int64_t head = 0; head < heads; ++head)
    for (std::int64_t i = 0; i < head_dim / 2; ++i)
      for (std::int64_t half = 0; half < 2; ++half) rows.push_back(head * head_dim + half * head_dim / 2 + i);
  return rows;
}

}  // namespace knapsaq
