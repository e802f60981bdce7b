#include "knapsaq/checkpoint/gguf_names.h"

#include <algorithm>
#include <array>

#include "knapsaq/family/family.h"

namespace knapsaq {
namespace {

// gguf-py's tensor_mapping.py has the same pairs.
constexpr std::array<GgufName, 3> kOutside{
    {{"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}}};
constexpr std::array<GgufName, 16> kInside{{{"input_layernorm", "attn_norm"},
                                            {"self_attn.q_proj", "attn_q"},
                                            {"self_attn.k_proj", "attn_k"},
                                            {"self_attn.v_proj", "attn_v"},
                                            {"self_attn.o_proj", "attn_output"},
                                            {"self_attn.q_norm", "attn_q_norm"},
                                            {"self_attn.k_norm", "attn_k_norm"},
                                            {"post_attention_layernorm", "ffn_norm"},
                                            {"mlp.gate_proj", "ffn_gate"},
                                            {"mlp.up_proj", "ffn_up"},
                                            {"mlp.down_proj", "ffn_down"},
                                            {"mlp.router", "ffn_gate_inp"},
                                            {"mlp.shared_expert_gate", "ffn_gate_inp_shexp"},
                                            {"mlp.shared_expert.gate_proj", "ffn_gate_shexp"},
                                            {"mlp.shared_expert.up_proj", "ffn_up_shexp"},
                                            {"mlp.shared_expert.down_proj", "ffn_down_shexp"}}};

using Name = std::string_view GgufName::*;

constexpr std::string_view kLayers = "model.layers.";
constexpr std::string_view kBlocks = "blk.";

/// The entry of `usual` or, before it, of `own` with this name; null if there is none.
const GgufName* find(std::span<const GgufName> own, std::span<const GgufName> usual, std::string_view name,
                     Name from) {
  for (const std::span<const GgufName> names : {own, usual}) {
    const auto found = std::ranges::find(names, name, from);
    if (found != names.end()) return &*found;
  }
  return nullptr;
}

/// The other name of a module, of which `from` is known; `before` and `instead` are the prefixes of a layer's
/// number in the two naming schemes.
std::optional<std::string> translate(std::string_view module, Name from, Name to, std::string_view before,
                                     std::string_view instead, std::span<const GgufName> own) {
  const GgufName* outside = find(own, kOutside, module, from);
  if (outside != nullptr) return std::string(outside->*to);
  if (!module.starts_with(before)) return std::nullopt;
  module.remove_prefix(before.size());
  const std::size_t digits = std::min(module.find_first_not_of("0123456789"), module.size());
  if (digits == 0 || digits == module.size() || module[digits] != '.') return std::nullopt;
  const GgufName* inside = find(own, kInside, module.substr(digits + 1), from);
  if (inside == nullptr) return std::nullopt;
  return std::string(instead) + std::string(module.substr(0, digits)) + "." + std::string(inside->*to);
}

}  // namespace

GgufNames::GgufNames(const ModelConfig& config) {
  const GgufFamily& gguf = family_of(config).gguf;
  names_ = gguf.names;
  if (gguf.fused != nullptr) fused_ = gguf.fused(config);
  for (std::size_t i = 0; i < fused_.size(); ++i) {
    of_name_[fused_[i].name] = i;
    for (const PublishedModule::Part& part : fused_[i].parts) of_part_[part.name] = i;
  }
}

std::optional<std::string> GgufNames::module(std::string_view own) const {
  if (const PublishedModule* fused = fused_with(own)) return fused->name;
  return translate(own, &GgufName::module, &GgufName::name, kLayers, kBlocks, names_);
}

std::optional<std::string> GgufNames::tensor(std::string_view own) const {
  // Vectors that are no part of a module: "blk.3.ssm_a". Sinks are one in GGUF.
  if (auto alone = translate(own, &GgufName::module, &GgufName::name, kLayers, kBlocks, names_))
    return own.ends_with(".sinks") ? *alone + ".weight" : *alone;
  const std::size_t dot = own.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  auto name = module(own.substr(0, dot));
  if (name) name->append(own.substr(dot));
  return name;
}

std::optional<std::string> GgufNames::own_module(std::string_view module) const {
  return translate(module, &GgufName::name, &GgufName::module, kBlocks, kLayers, names_);
}

const PublishedModule* GgufNames::fused_with(std::string_view own) const {
  const auto found = of_part_.find(own);
  return found == of_part_.end() ? nullptr : &fused_[found->second];
}

const PublishedModule* GgufNames::fused_as(std::string_view module) const {
  const auto found = of_name_.find(module);
  return found == of_name_.end() ? nullptr : &fused_[found->second];
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
