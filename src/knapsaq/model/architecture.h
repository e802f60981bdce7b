#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/family/family.h"

namespace knapsaq {

/// The role of a weight matrix.
enum class Role : std::uint8_t {
  embedding,
  positions,
  project_in,
  q,
  k,
  v,
  attention_gate,  ///< its product's sigmoid multiplies attention's result
  mixer_in,        ///< of a mixer that is no attention: the convolution's input
  mixer_gate,      ///< the delta rule's result is multiplied by SiLU of its product
  o,               ///< a mixer's last one
  gate,            ///< of a dense MLP, or of the expert that all tokens use
  up,
  down,
  expert_gate,
  expert_up,
  expert_down,
  project_out,
  head
};
inline constexpr std::size_t kRoles = static_cast<std::size_t>(Role::head) + 1;

/// The stages of a pass. Between two stages a pass can be kept, and resumed with other weights.
enum class Stage : std::uint8_t {
  embed,             ///< the beginning of the residual stream: embedding, learned positions, project_in
  attend,            ///< q, k, v and attention, or what a layer has instead
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
  std::int64_t expert = -1;  ///< of a mixture's layer, for the roles expert_..; else negative
  std::size_t number = 0;    ///< its index in matrices()
  /// The index in matrices() of the first matrix with the same input: these matrices share statistics.
  std::size_t input = 0;
  /// Columns that llama.cpp's files have in another order, so many at a time (GgufHeads): blocks must not
  /// cross from one such run into another. 0: all columns are as they are.
  std::int64_t run = 0;
  /// The embedding is also the output head: one tensor that is both looked up and multiplied.
  bool tied = false;

  std::int64_t parameters() const { return out * in; }
  /// Columns whose number has to be a multiple of a block of weights.
  std::int64_t whole_columns() const { return run > 0 ? run : in; }
  bool in_block() const { return block >= 0; }
  /// Whether tokens look up its rows.
  bool is_looked_up() const { return role == Role::embedding; }
  /// Whether inputs are multiplied by it.
  bool is_multiplied() const { return role != Role::embedding || tied; }
};

/// All matrices of a model that can be quantized, in the order of the pass: the embedding, the linears of the
/// blocks, the output head (unless it is the embedding). Not included are OPT's table of positions, the
/// projections of a narrow embedding, and routers: together they are below a hundredth of every model that
/// has them, no engine loads them quantized, and they stay dense.
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

/// The widest of all layers: what memory for any of them takes.
struct Widths {
  std::int64_t q = 0;         ///< of q
  std::int64_t kv = 0;        ///< of k and v
  std::int64_t mixed = 0;     ///< of a mixer's result
  std::int64_t mixer = 0;     ///< of the first product of a mixer that is no attention; 0: there is none
  std::int64_t channels = 0;  ///< of short convolutions
  std::int64_t values = 0;    ///< of all value heads of a delta rule; 0: there is none
  std::int64_t ffn = 0;       ///< of dense MLPs
};
Widths widths(const ModelConfig& config);

/// Modules of a block's norms, without the block's prefix; empty where there is none.
struct NormModules {
  std::string_view attention;         ///< before attention, or after the sum (OPT-350m)
  std::string_view attention_behind;  ///< on attention's result
  std::string_view mlp;
  std::string_view mlp_behind;
};
NormModules norm_modules(const ModelConfig& config);

/// Whether a tensor is the weight of a norm, to which ModelConfig::norm_offset is added.
bool is_norm_weight(const ModelConfig& config, std::string_view tensor);

/// Norms before the branches, and on their results.
inline bool has_norms_before(const ModelConfig& config) {
  return config.norms == NormPlacement::before || config.norms == NormPlacement::around;
}
inline bool has_norms_behind(const ModelConfig& config) {
  return config.norms == NormPlacement::behind || config.norms == NormPlacement::around;
}

/// "model." or "model.decoder.": the prefix of all modules except the head.
std::string_view module_prefix(const ModelConfig& config);
/// "model.layers.3."
std::string block_prefix(const ModelConfig& config, std::int64_t block);
/// "model.embed_tokens"
std::string embedding_module(const ModelConfig& config);
inline constexpr std::string_view kHeadModule = "lm_head";
// Of a block, dense always: the router [E, H], the gate [1, H] of the expert that all tokens use, and the
// logits of looking at nothing [heads].
inline constexpr std::string_view kRouterModule = "mlp.router";
inline constexpr std::string_view kSharedGateModule = "mlp.shared_expert_gate";
inline constexpr std::string_view kSinks = "self_attn.sinks";
// Of a layer with the delta rule, dense always: its convolution, the products a and b [value heads, H], its
// numbers for every value head, and the norm of its result.
inline constexpr std::string_view kDeltaConvolution = "linear_attn.conv1d";
inline constexpr std::string_view kDeltaA = "linear_attn.in_proj_a";
inline constexpr std::string_view kDeltaB = "linear_attn.in_proj_b";
inline constexpr std::string_view kDeltaRates = "linear_attn.A_log";
inline constexpr std::string_view kDeltaBias = "linear_attn.dt_bias";
inline constexpr std::string_view kDeltaNorm = "linear_attn.norm";
/// Of LFM2.
inline constexpr std::string_view kConvolution = "conv.conv";

/// The role of a module by the last part of its name ("self_attn.q_proj", "fc1"): for tables from files,
/// which have no configuration. Nullopt for other names.
std::optional<Role> role_of(std::string_view module);
Stage stage_of(Role role);
/// For people: "q", "expert gate".
std::string_view name_of(Role role);
bool is_of_expert(Role role);
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
