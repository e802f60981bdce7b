#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/model/config.h"

namespace knapsaq {

/// The role of a weight matrix.
enum class Role : std::uint8_t {
  embedding,
  positions,
  project_in,
  q,
  k,
  v,
  o,
  gate,
  up,
  down,
  project_out,
  head
};

/// The stages of a pass. Between two stages a pass can be kept, and resumed with other weights.
enum class Stage : std::uint8_t {
  embed,             ///< the beginning of the residual stream: embedding, learned positions, project_in
  attend,            ///< q, k, v and attention
  attention_output,  ///< o, added to the residual stream
  activate,          ///< gate and up, or the first linear of a plain MLP
  mlp_output,        ///< down, or the second linear of a plain MLP, added to the residual stream
  head               ///< final norm, project_out, output head
};

/// Matrices that some engines run as one and that then need the same scheme.
enum class Fusion : std::uint8_t { none, qkv, gate_up };

/// One weight matrix W [out, in] of a model.
struct Matrix {
  std::string name;         ///< module path, e.g. "model.layers.3.self_attn.q_proj"
  std::int64_t block = -1;  ///< 3; -1 outside the blocks
  std::string module;       ///< "self_attn.q_proj"; outside the blocks the last part of the name: "lm_head"
  std::int64_t out = 0;
  std::int64_t in = 0;
  bool bias = false;
  Role role = Role::q;
  std::size_t number = 0;  ///< its index in matrices()
  /// The index in matrices() of the first matrix with the same input: these matrices share statistics.
  std::size_t input = 0;
  /// The embedding is also the output head: one tensor that is both looked up and multiplied.
  bool tied = false;

  std::int64_t parameters() const { return out * in; }
  bool in_block() const { return block >= 0; }
  /// Whether tokens look up its rows.
  bool is_looked_up() const { return role == Role::embedding; }
  /// Whether inputs are multiplied by it.
  bool is_multiplied() const { return role != Role::embedding || tied; }
};

/// The configuration of one block. The blocks of the current families differ in their attention windows only.
/// All code that computes or counts something of a block asks this function, so other differences need
/// changes here only.
struct LayerConfig {
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t ffn = 0;
  bool gated_mlp = true;
  Activation activation = Activation::silu;
  std::int64_t sliding_window =
      0;  ///< a token sees itself and the tokens before it, this many in total; 0: all

  std::int64_t q_width() const { return heads * head_dim; }
  std::int64_t kv_width() const { return kv_heads * head_dim; }
};
LayerConfig layer_config(const ModelConfig& config, std::int64_t block);

/// All matrices of a model that can be quantized, in the order of the pass: the embedding, the linears of the
/// blocks, the output head (unless it is the embedding). Not included are OPT's table of positions and the
/// projections of a narrow embedding: together they are below a hundredth of every OPT model that has them,
/// no engine loads them quantized, and they stay dense.
std::vector<Matrix> matrices(const ModelConfig& config);

/// The linears of the blocks among them: the papers quantize these, and bits per weight are averaged over
/// them.
std::vector<Matrix> linears(const ModelConfig& config);

/// The matrices of matrices(config) with these names, in the order of the names. Throws InputError for a name
/// that the model does not have.
std::vector<Matrix> find_matrices(const ModelConfig& config, std::span<const std::string> names);

/// Whether a pattern (matches_pattern()) names a matrix: by its name, by "3.self_attn.q_proj", or outside the
/// blocks by the last part. A tied embedding is also "lm_head".
bool is_named(const Matrix& matrix, std::string_view pattern);

/// Which matrices are quantized, and which are not.
struct MatrixSelection {
  std::vector<Matrix> quantized;   ///< some of matrices(config), in that order
  std::vector<std::string> dense;  ///< the other matrices of matrices(config), sorted by name
  std::vector<std::string>
      kept;  ///< modules that are written as they are stored, sorted; most are also in `dense`
};
/// Selects everything except the matrices named by one of the patterns `keep` (is_named(); tables of
/// positions and projections too), and without `ends` except embedding and head. Throws UsageError for a
/// pattern that names nothing, and if nothing is left.
MatrixSelection select_matrices(const ModelConfig& config, std::span<const std::string> keep,
                                bool ends = true);

/// For each of `matrices`, the index among them of the first with the same input: q for k and v, gate for up,
/// itself for all others.
std::vector<std::size_t> input_owners(std::span<const Matrix> matrices);

/// "model." or "model.decoder.": the prefix of all modules except the head.
std::string_view module_prefix(const ModelConfig& config);
/// "model.layers.3."
std::string block_prefix(const ModelConfig& config, std::int64_t block);
/// "model.embed_tokens"
std::string embedding_module(const ModelConfig& config);
inline constexpr std::string_view kHeadModule = "lm_head";

/// The role of a module by the last part of its name ("self_attn.q_proj", "fc1"): for tables from files,
/// which have no configuration. Nullopt for other names.
std::optional<Role> role_of(std::string_view module);
Stage stage_of(Role role);
Fusion fusion_of(Role role);

/// The kind of module that feeds a linear, if scales can be moved between the two (AWQ's folding).
struct Feeder {
  std::string module;    ///< a norm, or the linear whose outputs reach it element by element
  bool is_norm = false;  ///< otherwise a linear
};
/// Nullopt if scales cannot be moved: norms in other places, activations that do not commute with a factor,
/// value heads that several query heads share.
std::optional<Feeder> feeder_of(const ModelConfig& config, const Matrix& matrix);

}  // namespace knapsaq
