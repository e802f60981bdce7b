#include "knapsaq/model/architecture.h"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/pattern.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/stored_layout.h"

namespace knapsaq {
namespace {

/// A linear of a block under a family's name.
struct Module {
  std::string_view path;
  Role role;
};
constexpr std::array<Module, 8> kLlamaModules = {{{"self_attn.q_proj", Role::q},
                                                  {"self_attn.k_proj", Role::k},
                                                  {"self_attn.v_proj", Role::v},
                                                  {"self_attn.q_gate_proj", Role::attention_gate},
                                                  {"self_attn.o_proj", Role::o},
                                                  {"mlp.gate_proj", Role::gate},
                                                  {"mlp.up_proj", Role::up},
                                                  {"mlp.down_proj", Role::down}}};
/// Of the expert that all tokens of a mixture use.
constexpr std::array<Module, 3> kSharedModules = {{{"mlp.shared_expert.gate_proj", Role::gate},
                                                   {"mlp.shared_expert.up_proj", Role::up},
                                                   {"mlp.shared_expert.down_proj", Role::down}}};
/// "mlp.experts.7." and one of these.
constexpr std::string_view kExperts = "mlp.experts.";
constexpr std::array<Module, 3> kExpertModules = {
    {{"gate_proj", Role::expert_gate}, {"up_proj", Role::expert_up}, {"down_proj", Role::expert_down}}};
constexpr std::array<Module, 6> kOptModules = {{{"self_attn.q_proj", Role::q},
                                                {"self_attn.k_proj", Role::k},
                                                {"self_attn.v_proj", Role::v},
                                                {"self_attn.out_proj", Role::o},
                                                {"fc1", Role::up},
                                                {"fc2", Role::down}}};
constexpr std::array<Module, 3> kDeltaModules = {{{"linear_attn.in_proj_qkv", Role::mixer_in},
                                                  {"linear_attn.in_proj_z", Role::mixer_gate},
                                                  {"linear_attn.out_proj", Role::o}}};
constexpr std::array<Module, 2> kConvolutionModules = {
    {{"conv.in_proj", Role::mixer_in}, {"conv.out_proj", Role::o}}};
constexpr std::array<Module, 5> kOutsideModules = {{{"embed_tokens", Role::embedding},
                                                    {"embed_positions", Role::positions},
                                                    {"project_in", Role::project_in},
                                                    {"project_out", Role::project_out},
                                                    {kHeadModule, Role::head}}};

bool is_opt(const ModelConfig& config) { return config.positions == Positions::learned; }

std::string_view last_part(std::string_view path) { return path.substr(path.rfind('.') + 1); }

/// Of the MLP that all tokens use.
std::int64_t dense_ffn(const LayerConfig& layer) {
  return layer.is_mixture() ? layer.experts.shared_ffn : layer.ffn;
}

struct Shape {
  std::int64_t out;
  std::int64_t in;
  bool bias;
};
Shape shape_of(const ModelConfig& config, std::int64_t block, Role role) {
  const LayerConfig layer = block < 0 ? LayerConfig() : layer_config(config, block);
  const std::int64_t q = layer.q_width();
  const std::int64_t kv = layer.kv_width();
  switch (role) {
    case Role::q:
      return {q, config.hidden, config.qkv_bias};
    case Role::k:
    case Role::v:
      return {kv, config.hidden, config.qkv_bias};
    case Role::attention_gate:
      return {q, config.hidden, config.qkv_bias};
    case Role::mixer_in:
      return {layer.mixer_width(), config.hidden, layer.recurrence.bias};
    case Role::mixer_gate:
      return {layer.mixed_width(), config.hidden, layer.recurrence.bias};
    case Role::o:
      return {config.hidden, layer.mixed_width(),
              layer.is_attention() ? config.o_bias : layer.recurrence.bias};
    case Role::gate:
    case Role::up:
      return {dense_ffn(layer), config.hidden, config.mlp_bias};
    case Role::down:
      return {config.hidden, dense_ffn(layer), config.mlp_bias};
    case Role::expert_gate:
    case Role::expert_up:
      return {layer.experts.ffn, config.hidden, layer.experts.bias};
    case Role::expert_down:
      return {config.hidden, layer.experts.ffn, layer.experts.bias};
    case Role::embedding:
    case Role::head:
      return {config.vocab, config.embedding, false};
    case Role::positions:
    case Role::project_in:
    case Role::project_out:
      break;
  }
  throw std::logic_error("no matrix that is quantized");
}

/// Whether a matrix multiplies what the one before it in the pass multiplies.
bool shares_input(const LayerConfig& layer, Role role) {
  return role == Role::k || role == Role::v || role == Role::attention_gate || role == Role::mixer_gate ||
         role == Role::expert_up || (role == Role::up && layer.gated_mlp);
}

/// The linears of a block, in the order of the pass.
struct BlockModule {
  std::string path;
  Role role;
  std::int64_t expert = -1;
};
std::vector<BlockModule> modules_of(const ModelConfig& config, const LayerConfig& layer) {
  std::vector<BlockModule> modules;
  const std::span<const Module> usual =
      is_opt(config) ? std::span<const Module>(kOptModules) : std::span<const Module>(kLlamaModules);
  const auto add_dense = [&](std::span<const Module> some, Stage stage) {
    for (const Module& module : some) {
      if (stage_of(module.role) != stage) continue;
      if (module.role == Role::gate && !layer.gated_mlp) continue;
      if (module.role == Role::attention_gate && !config.attention_gate) continue;
      modules.push_back({std::string(module.path), module.role});
    }
  };
  const auto add_experts = [&](Stage stage) {
    for (std::int64_t expert = 0; expert < layer.experts.count; ++expert)
      for (const Module& module : kExpertModules)
        if (stage_of(module.role) == stage)
          modules.push_back({fmt::format("{}{}.{}", kExperts, expert, module.path), module.role, expert});
  };
  const std::span<const Module> mixer = layer.is_attention() ? usual
                                        : layer.mixer == Mixer::delta
                                            ? std::span<const Module>(kDeltaModules)
                                            : std::span<const Module>(kConvolutionModules);
  add_dense(mixer, Stage::attend);
  add_dense(mixer, Stage::attention_output);
  for (const Stage stage : {Stage::activate, Stage::mlp_output}) {
    add_experts(stage);
    if (!layer.is_mixture()) add_dense(usual, stage);
    if (layer.is_mixture() && layer.experts.shared_ffn > 0) add_dense(kSharedModules, stage);
  }
  return modules;
}

}  // namespace

Widths widths(const ModelConfig& config) {
  Widths widest;
  for (std::int64_t block = 0; block < config.layers; ++block) {
    const LayerConfig layer = layer_config(config, block);
    widest = {.q = std::max(widest.q, layer.q_width()),
              .kv = std::max(widest.kv, layer.kv_width()),
              .mixed = std::max(widest.mixed, layer.mixed_width()),
              .mixer = std::max(widest.mixer, layer.mixer_width()),
              .channels = std::max(widest.channels, layer.recurrence.channels),
              .values = std::max(widest.values, layer.recurrence.value_width()),
              .ffn = std::max(widest.ffn, layer.ffn)};
  }
  return widest;
}

NormModules norm_modules(const ModelConfig& config) {
  if (is_opt(config)) return {"self_attn_layer_norm", "", "final_layer_norm", ""};
  switch (config.norms) {
    case NormPlacement::behind:
      return {"", "post_attention_layernorm", "", "post_feedforward_layernorm"};
    case NormPlacement::around:
      return {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
              "post_feedforward_layernorm"};
    default:
      return {"input_layernorm", "", "post_attention_layernorm", ""};
  }
}

bool is_norm_weight(const ModelConfig& config, std::string_view tensor) {
  if (!tensor.ends_with(".weight")) return false;
  if (tensor.substr(0, tensor.rfind('.')).ends_with(kDeltaNorm)) return false;
  const std::string_view module = last_part(tensor.substr(0, tensor.rfind('.')));
  const NormModules norms = norm_modules(config);
  for (const std::string_view name :
       {norms.attention, norms.attention_behind, norms.mlp, norms.mlp_behind, std::string_view("q_norm"),
        std::string_view("k_norm"), std::string_view(is_opt(config) ? "final_layer_norm" : "norm")})
    if (module == name) return true;
  return false;
}

std::string_view module_prefix(const ModelConfig& config) {
  return is_opt(config) ? "model.decoder." : "model.";
}

std::string block_prefix(const ModelConfig& config, std::int64_t block) {
  return fmt::format("{}layers.{}.", module_prefix(config), block);
}

std::string embedding_module(const ModelConfig& config) {
  return std::string(module_prefix(config)) + std::string(kOutsideModules[0].path);
}

std::vector<Matrix> matrices(const ModelConfig& config) {
  std::vector<Matrix> all;
  const auto add = [&](std::string name, std::int64_t block, std::string_view module, Role role,
                       std::int64_t expert = -1) {
    const Shape shape = shape_of(config, block, role);
    all.push_back({.name = std::move(name),
                   .block = block,
                   .module = std::string(module),
                   .out = shape.out,
                   .in = shape.in,
                   .bias = shape.bias,
                   .role = role,
                   .expert = expert,
                   .number = all.size(),
                   .input = all.size()});
  };
  add(embedding_module(config), -1, kOutsideModules[0].path, Role::embedding);
  all.back().tied = config.tied;
  for (std::int64_t block = 0; block < config.layers; ++block) {
    const std::string prefix = block_prefix(config, block);
    const LayerConfig layer = layer_config(config, block);
    for (const BlockModule& module : modules_of(config, layer)) {
      add(prefix + module.path, block, module.path, module.role, module.expert);
      if (module.role == Role::o && layer.recurrence.value_heads != layer.recurrence.key_heads)
        all.back().run = layer.recurrence.value_dim;
      // Those that share an input follow each other.
      if (shares_input(layer, module.role)) all.back().input = all[all.size() - 2].input;
    }
  }
  if (!config.tied) add(std::string(kHeadModule), -1, kHeadModule, Role::head);
  return all;
}

std::vector<Matrix> linears(const ModelConfig& config) {
  std::vector<Matrix> all = matrices(config);
  std::erase_if(all, [](const Matrix& matrix) { return !matrix.in_block(); });
  return all;
}

std::vector<Matrix> find_matrices(const ModelConfig& config, std::span<const std::string> names) {
  const std::vector<Matrix> all = matrices(config);
  std::unordered_map<std::string_view, const Matrix*> by_name;
  for (const Matrix& matrix : all) by_name[matrix.name] = &matrix;
  std::vector<Matrix> found;
  for (const std::string& name : names) {
    const auto matrix = by_name.find(name);
    if (matrix == by_name.end())
      throw InputError(
          fmt::format("the model has no matrix {}: this was made for another model", in_quotes(name)));
    found.push_back(*matrix->second);
  }
  return found;
}

bool is_named(const Matrix& matrix, std::string_view pattern) {
  if (matrix.tied && matches_pattern(pattern, kHeadModule)) return true;
  return matches_pattern(pattern, matrix.name) ||
         matches_pattern(
             pattern, matrix.in_block() ? fmt::format("{}.{}", matrix.block, matrix.module) : matrix.module);
}

MatrixSelection select_matrices(const ModelConfig& config, std::span<const std::string> keep, bool ends) {
  MatrixSelection selection;
  std::vector<bool> used(keep.size());
  const auto is_kept = [&](const Matrix& matrix) {
    bool kept = false;
    for (std::size_t i = 0; i < keep.size(); ++i) {
      if (!is_named(matrix, keep[i])) continue;
      used[i] = true;
      kept = true;
    }
    return kept;
  };
  for (Matrix& matrix : matrices(config)) {
    if (is_kept(matrix) || (!ends && !matrix.in_block())) {
      selection.kept.push_back(matrix.name);
      selection.dense.push_back(matrix.name);
    } else {
      selection.quantized.push_back(std::move(matrix));
    }
  }
  // Matrices that are always dense, but in 16 bits unless they are kept.
  for (const Module& module : kOutsideModules) {
    if (module.role == Role::embedding || module.role == Role::head) continue;
    const Matrix dense{.name = std::string(module_prefix(config)) + std::string(module.path),
                       .module = std::string(module.path),
                       .role = module.role};
    const bool exists =
        is_opt(config) && (module.role == Role::positions || config.embedding != config.hidden);
    if (exists && is_kept(dense)) selection.kept.push_back(dense.name);
  }
  if (const auto unused = std::ranges::find(used, false); unused != used.end())
    throw UsageError(
        fmt::format("--keep {}: the model has no matrix of such a name; names are like "
                    "model.layers.3.self_attn.q_proj, embed_tokens or lm_head, and * stands for any "
                    "characters",
                    in_quotes(keep[static_cast<std::size_t>(unused - used.begin())])));
  if (selection.quantized.empty()) throw UsageError("--keep keeps every matrix: nothing is left to quantize");
  std::ranges::sort(selection.dense);
  std::ranges::sort(selection.kept);
  return selection;
}

std::vector<std::size_t> input_owners(std::span<const Matrix> matrices) {
  std::unordered_map<std::size_t, std::size_t> first;
  std::vector<std::size_t> owners;
  for (std::size_t i = 0; i < matrices.size(); ++i)
    owners.push_back(first.try_emplace(matrices[i].input, i).first->second);
  return owners;
}

std::optional<Role> role_of(std::string_view module) {
  const std::string_view name = last_part(module);
  const bool expert = module.find(kExperts) != module.npos;
  const auto find = [&](std::span<const Module> modules) -> std::optional<Role> {
    const auto found =
        std::ranges::find_if(modules, [&](const Module& one) { return last_part(one.path) == name; });
    if (found == modules.end()) return std::nullopt;
    return found->role;
  };
  if (expert) return find(kExpertModules);
  for (const std::span<const Module> modules :
       {std::span<const Module>(kLlamaModules), std::span<const Module>(kOptModules),
        std::span<const Module>(kDeltaModules), std::span<const Module>(kConvolutionModules),
        std::span<const Module>(kOutsideModules)})
    if (const auto role = find(modules)) return role;
  return std::nullopt;
}

Stage stage_of(Role role) {
  switch (role) {
    case Role::embedding:
    case Role::positions:
    case Role::project_in:
      return Stage::embed;
    case Role::q:
    case Role::k:
    case Role::v:
    case Role::attention_gate:
    case Role::mixer_in:
    case Role::mixer_gate:
      return Stage::attend;
    case Role::o:
      return Stage::attention_output;
    case Role::gate:
    case Role::up:
    case Role::expert_gate:
    case Role::expert_up:
      return Stage::activate;
    case Role::down:
    case Role::expert_down:
      return Stage::mlp_output;
    case Role::project_out:
    case Role::head:
      break;
  }
  return Stage::head;
}

std::string_view name_of(Role role) {
  switch (role) {
    case Role::embedding:
      return "embedding";
    case Role::positions:
      return "positions";
    case Role::project_in:
      return "projection of the embedding";
    case Role::q:
      return "q";
    case Role::k:
      return "k";
    case Role::v:
      return "v";
    case Role::attention_gate:
      return "gate of attention";
    case Role::mixer_in:
      return "mixer";
    case Role::mixer_gate:
      return "gate of the mixer";
    case Role::o:
      return "o";
    case Role::gate:
      return "gate";
    case Role::up:
      return "up";
    case Role::down:
      return "down";
    case Role::expert_gate:
      return "gate of experts";
    case Role::expert_up:
      return "up of experts";
    case Role::expert_down:
      return "down of experts";
    case Role::project_out:
      return "projection to the head";
    case Role::head:
      return "head";
  }
  return "";
}

bool is_of_expert(Role role) {
  return role == Role::expert_gate || role == Role::expert_up || role == Role::expert_down;
}

Fusion fusion_of(Role role) {
  if (role == Role::q || role == Role::k || role == Role::v || role == Role::attention_gate ||
      role == Role::mixer_in || role == Role::mixer_gate)
    return Fusion::qkv;
  if (role == Role::gate || role == Role::up || role == Role::expert_gate || role == Role::expert_up)
    return Fusion::gate_up;
  return Fusion::none;
}

std::optional<Feeder> feeder_of(const ModelConfig& config, const Matrix& matrix) {
  if (!matrix.in_block()) return std::nullopt;
  const std::string prefix = block_prefix(config, matrix.block);
  const LayerConfig layer = layer_config(config, matrix.block);
  const auto norm = [&](std::string_view name) -> std::optional<Feeder> {
    // With an offset, a norm's weight is not what it multiplies by.
    if (!has_norms_before(config) || !config.norm_affine || config.norm_offset != 0) return std::nullopt;
    return Feeder{prefix + std::string(name), true};
  };
  const auto linear = [&](Role role) -> std::optional<Feeder> {
    for (const BlockModule& module : modules_of(config, layer))
      if (module.role == role && module.expert == matrix.expert) return Feeder{prefix + module.path, false};
    throw std::logic_error("no such linear");
  };
  const NormModules norms = norm_modules(config);
  switch (stage_of(matrix.role)) {
    case Stage::attend:
      // The delta rule's a and b, which are no matrices here, read the norm too.
      return layer.mixer == Mixer::delta ? std::nullopt : norm(norms.attention);
    case Stage::attention_output:
      if (!layer.is_attention()) return std::nullopt;
      // With grouped queries, an output of v is multiplied by several columns of o.
      return layer.heads == layer.kv_heads ? linear(Role::v) : std::nullopt;
    case Stage::activate:
      // The router reads the norm, too, and is no linear whose columns are multiplied.
      return layer.is_mixture() ? std::nullopt : norm(norms.mlp);
    case Stage::mlp_output:
      // up is multiplied by the gate's activation. Without a gate it passes through the activation itself,
      // and a positive factor commutes with relu.
      if (layer.activation == Activation::clamped_swiglu) return std::nullopt;
      if (matrix.expert >= 0) return linear(Role::expert_up);
      return layer.gated_mlp || layer.activation == Activation::relu ? linear(Role::up) : std::nullopt;
    default:
      return std::nullopt;
  }
}

}  // namespace knapsaq
