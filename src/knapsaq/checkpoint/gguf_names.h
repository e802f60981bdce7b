#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/family/config.h"
#include "knapsaq/family/gguf.h"

namespace knapsaq {

/// llama.cpp's names for the modules and tensors of one model. In both naming schemes, tensors are modules
/// with
/// ".weight" or ".bias" appended.
class GgufNames {
 public:
  /// For a family that llama.cpp has no code for, there are only the usual names.
  explicit GgufNames(const ModelConfig& config);

  /// The name of the module that holds a module of Knapsaq's, alone or with others:
  /// "model.layers.3.self_attn.q_proj" is "blk.3.attn_q", or a part of "blk.3.attn_qkv". Empty for modules
  /// without one.
  std::optional<std::string> module(std::string_view own) const;
  /// The same for a tensor: "blk.3.attn_q.weight", or "blk.3.ssm_a" for one with a name of its own.
  std::optional<std::string> tensor(std::string_view own) const;
  /// The inverse of module() for modules that stand alone; empty for names that no module has.
  std::optional<std::string> own_module(std::string_view module) const;

  /// The modules that hold several ones, in the order of the pass.
  std::span<const PublishedModule> fused() const { return fused_; }
  /// The one that holds this module of Knapsaq's, or has this name of llama.cpp's; null if there is none.
  const PublishedModule* fused_with(std::string_view own) const;
  const PublishedModule* fused_as(std::string_view module) const;

 private:
  std::span<const GgufName> names_;  ///< the family's own, which come before the usual ones
  std::vector<PublishedModule> fused_;
  std::map<std::string, std::size_t, std::less<>> of_part_;  ///< indices in fused_, by parts
  std::map<std::string, std::size_t, std::less<>> of_name_;
};

/// The rows of a q or k projection with `heads` heads of `head_dim` rows in llama.cpp's order, as indices of
/// the original rows. llama.cpp's "llama" code rotates adjacent rows where Hugging Face's rotates halves: row
/// 2i + p of a head is the original row p * head_dim / 2 + i.
std::vector<std::int64_t> rotated_rows(std::int64_t heads, std::int64_t head_dim);

}  // namespace knapsaq
