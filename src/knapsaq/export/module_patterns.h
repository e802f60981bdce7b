#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/model/architecture.h"

namespace knapsaq {

/// The name of a module inside a numbered block, in parts: "model.layers." 3 "self_attn." "q_proj".
struct BlockModule {
  std::string before;  ///< "model.layers."
  std::int64_t block = 0;
  std::string parent;  ///< "self_attn.", or empty
  std::string leaf;    ///< "q_proj"
};

/// Throws std::logic_error for a name without a number.
BlockModule take_apart(std::string_view name);

/// Modules that serving engines run as one matrix, under a common name.
struct FusedModule {
  Fusion fusion = Fusion::none;
  std::string_view name = {};  ///< "qkv_proj"
  std::size_t shards = 0;      ///< matrices in it
};
/// The fused matrix to which a module with this last name belongs; null for others.
const FusedModule* fused_module(std::string_view leaf);

/// Regular expressions, without anchors, that together match exactly these modules of a model with `blocks`
/// blocks: "model\.layers\.(0|3)\.self_attn\.(k_proj|q_proj)". They are few: modules in the same blocks share
/// one, and a module in all blocks uses `\d+`. `before` is the pattern to write for BlockModule:: before;
/// empty for the name itself, escaped. Sorted.
std::vector<std::string> block_patterns(std::span<const BlockModule> modules, std::int64_t blocks,
                                        std::string_view before = "");

}  // namespace knapsaq
