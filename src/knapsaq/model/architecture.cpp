#include "knapsaq/model/architecture.h"

#include <algorithm>
#include <array>
#include <stdexcept>
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
constexpr std::array<Module, 7> kLlamaModules = {{{"self_attn.q_proj", Role::q},
                                                  {"self_attn.k_proj", Role::k},
                                                  {"self_attn.v_proj", Role::v},
                                                  {"self_attn.o_proj", Role::o},
                                                  {"mlp.gate_proj", Role::gate},
                                                  {"mlp.up_proj", Role::up},
                                                  {"mlp.down_proj", Role::down}}};
constexpr std::array<Module, 6> kOptModules = {{{"self_attn.q_proj", Role::q},
                                                {"self_attn.k_proj", Role::k},
                                                {"self_attn.v_proj", Role::v},
                                                {"self_attn.out_proj", Role::o},
                                                {"fc1", Role::up},
                                                {"fc2", Role::down}}};
constexpr std::array<Module, 5> kOutsideModules = {{{"embed_tokens", Role::embedding},
                                                    {"embed_positions", Role::positions},
                                                    {"project_in", Role::project_in},
                                                    {"project_out", Role::project_out},
                                                    {kHeadModule, Role::head}}};

/// Norms of a block: before (or after, in a post-norm model) attention and MLP.
struct NormNames {
  std::string_view attention;
  std::string_view mlp;
};

bool is_opt(const ModelConfig& config) { return config.positions == Positions::learned; }

std::span<const Module> modules_of(const ModelConfig& config) {
  if (is_opt(config)) return kOptModules;
  return kLlamaModules;
}

NormNames norms_of(const ModelConfig& config) {
  if (is_opt(config)) return {"self_attn_layer_norm", "final_layer_norm"};
  return {"input_layernorm", "post_attention_layernorm"};
}

std::string_view last_part(std::string_view path) { return path.substr(path.rfind('.') + 1); }

struct Shape {
  std::int64_t out;
  std::int64_t in;
  bool bias;
};
Shape shape_of(const ModelConfig& config, std::int64_t block, Role role) {
  const LayerConfig layer = layer_config(config, block);
  const std::int64_t q = layer.q_width();
  const std::int64_t kv = layer.kv_width();
  switch (role) {
    case Role::q:
      return {q, config.hidden, config.qkv_bias};
    case Role::k:
    case Role::v:
      return {kv, config.hidden, config.qkv_bias};
    case Role::o:
      return {config.hidden, q, config.o_bias};
    case Role::gate:
    case Role::up:
      return {layer.ffn, config.hidden, config.mlp_bias};
    case Role::down:
      return {config.hidden, layer.ffn, config.mlp_bias};
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

/// The role whose input a role shares; itself for most.
Role owner_of(const LayerConfig& layer, Role role) {
  if (role == Role::k || role == Role::v) return Role::q;
  if (role == Role::up && layer.gated_mlp) return Role::gate;
  return role;
}

}  // namespace

LayerConfig layer_config(const ModelConfig& config, std::int64_t block) {
  const bool slides = block >= config.sliding_from_layer;
  return {.heads = config.heads,
          .kv_heads = config.kv_heads,
          .head_dim = config.head_dim,
          .ffn = config.ffn,
          .gated_mlp = config.gated_mlp,
          .activation = config.activation,
          .sliding_window = slides ? config.sliding_window : 0};
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
  const auto add = [&](std::string name, std::int64_t block, std::string_view module, Role role) {
    const Shape shape = shape_of(config, block, role);
    all.push_back({.name = std::move(name),
                   .block = block,
                   .module = std::string(module),
                   .out = shape.out,
                   .in = shape.in,
                   .bias = shape.bias,
                   .role = role,
                   .number = all.size(),
                   .input = all.size()});
  };
  add(embedding_module(config), -1, kOutsideModules[0].path, Role::embedding);
  all.back().tied = config.tied;
  for (std::int64_t block = 0; block < config.layers; ++block) {
    const std::string prefix = block_prefix(config, block);
    const LayerConfig layer = layer_config(config, block);
    for (const Module& module : modules_of(config)) {
      if (module.role == Role::gate && !layer.gated_mlp) continue;
      add(prefix + std::string(module.path), block, module.path, module.role);
      // Those that share an input follow each other.
      if (owner_of(layer, module.role) != module.role) all.back().input = all[all.size() - 2].input;
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
  std::vector<Matrix> found;
  for (const std::string& name : names) {
    const auto matrix = std::ranges::find(all, name, &Matrix::name);
    if (matrix == all.end())
      throw InputError(
          fmt::format("the model has no matrix {}: this was made for another model", in_quotes(name)));
    found.push_back(*matrix);
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
  std::vector<std::size_t> owners;
  for (const Matrix& matrix : matrices)
    owners.push_back(static_cast<std::size_t>(std::ranges::find(matrices, matrix.input, &Matrix::input) -
                                              matrices.begin()));
  return owners;
}

std::optional<Role> role_of(std::string_view module) {
  const std::string_view name = last_part(module);
  const auto find = [&](std::span<const Module> modules) -> std::optional<Role> {
    const auto found =
        std::ranges::find_if(modules, [&](const Module& one) { return last_part(one.path) == name; });
    if (found == modules.end()) return std::nullopt;
    return found->role;
  };
  for (const std::span<const Module> modules :
       {std::span<const Module>(kLlamaModules), std::span<const Module>(kOptModules),
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
      return Stage::attend;
    case Role::o:
      return Stage::attention_output;
    case Role::gate:
    case Role::up:
      return Stage::activate;
    case Role::down:
      return Stage::mlp_output;
    case Role::project_out:
    case Role::head:
      break;
  }
  return Stage::head;
}

Fusion fusion_of(Role role) {
  if (role == Role::q || role == Role::k || role == Role::v) return Fusion::qkv;
  if (role == Role::gate || role == Role::up) return Fusion::gate_up;
  return Fusion::none;
}

std::optional<Feeder> feeder_of(const ModelConfig& config, const Matrix& matrix) {
  if (!matrix.in_block()) return std::nullopt;
  const std::string prefix = block_prefix(config, matrix.block);
  const LayerConfig layer = layer_config(config, matrix.block);
  const auto norm = [&](std::string_view name) -> std::optional<Feeder> {
    if (!config.norm_before || !config.norm_affine) return std::nullopt;
    return Feeder{prefix + std::string(name), true};
  };
  const auto linear = [&](Role role) -> std::optional<Feeder> {
    for (const Module& module : modules_of(config))
      if (module.role == role) return Feeder{prefix + std::string(module.path), false};
    throw std::logic_error("no such linear");
  };
  switch (stage_of(matrix.role)) {
    case Stage::attend:
      return norm(norms_of(config).attention);
    case Stage::attention_output:
      // With grouped queries, an output of v is multiplied by several columns of o.
      return layer.heads == layer.kv_heads ? linear(Role::v) : std::nullopt;
    case Stage::activate:
      return norm(norms_of(config).mlp);
    case Stage::mlp_output:
      // up is multiplied by the gate's activation. Without a gate it passes through the activation itself,
      // and a positive factor commutes with relu.
      return layer.gated_mlp || layer.activation == Activation::relu ? linear(Role::up) : std::nullopt;
    default:
      return std::nullopt;
  }
}

}  // namespace knapsaq
