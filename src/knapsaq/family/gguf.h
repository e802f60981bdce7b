#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "knapsaq/family/config.h"
#include "knapsaq/family/published.h"

namespace knapsaq {

/// A module of a block, or outside the blocks, and llama.cpp's name for it, without the block's prefix.
struct GgufName {
  std::string_view module;  ///< "self_attn.q_proj", "mlp.router"
  std::string_view name;    ///< "attn_q", "ffn_gate_inp"
};

/// How llama.cpp stores a family. Values of metadata are JSON here: whole numbers become uint32, others
/// float32, lists lists of one type. Keys are without the architecture: "attention.head_count".
struct GgufFamily {
  /// llama.cpp's name of the architecture; empty: it has no code for the family.
  std::string_view architecture = {};
  /// Names that differ from the usual ones (checkpoint/gguf_names.cpp) for this family.
  std::span<const GgufName> names = {};
  /// Rows of q and k are in the order of llama.cpp's "llama" code, which rotates adjacent numbers.
  bool rotated_rows = false;
  /// What makes a configuration one that llama.cpp's code cannot run: a noun; empty if it can. Null: nothing.
  std::string (*obstacle)(const ModelConfig& config) = nullptr;
  /// llama.cpp's code computes sliding windows for it, not full attention.
  bool windows = false;
  /// Completes the metadata that all families have (usual_gguf_keys()).
  void (*write)(const ModelConfig& config, nlohmann::ordered_json& keys) = nullptr;
  /// Completes config.json, in Hugging Face's notation, from the file's metadata. There already is what
  /// usual_gguf_keys() writes.
  void (*read)(const nlohmann::json& keys, nlohmann::json& config) = nullptr;
  /// Keys that change the arithmetic, that files of most families lack and that `read` looks at
  /// ("expert_count").
  std::span<const std::string_view> reads = {};
  /// Tensors that hold several modules: fused ones, stacks of experts. By llama.cpp's full names
  /// ("blk.3.attn_qkv").
  std::vector<PublishedModule> (*fused)(const ModelConfig& config) = nullptr;
};

/// Sizes, norms, heads, windows and rotary positions, as llama.cpp's loaders have the keys in common.
nlohmann::ordered_json usual_gguf_keys(const ModelConfig& config);

}  // namespace knapsaq
