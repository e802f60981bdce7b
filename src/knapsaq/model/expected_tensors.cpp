#include "knapsaq/model/expected_tensors.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {
namespace {

class Checker {
 public:
  explicit Checker(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  void dense(const ExpectedTensor& expected) const {
    if (!checkpoint_.contains(expected.name))
      fail(fmt::format("tensor '{}' is missing; config.json asks for it with the shape [{}]", expected.name,
                       fmt::join(expected.shape, ", ")));
    const TensorSpec found = checkpoint_.spec(expected.name);
    if (found.shape != expected.shape)
      fail(fmt::format("tensor '{}' has the shape [{}], but config.json asks for [{}]", expected.name,
                       fmt::join(found.shape, ", "), fmt::join(expected.shape, ", ")));
    if (!is_weight_type(found.type))
      fail(fmt::format("tensor '{}' is of type {}; weights are F16, BF16 or F32", expected.name,
                       name_of(found.type)));
  }

  /// A weight matrix [rows, cols], dense or quantized.
  void matrix(const std::string& module, std::int64_t rows, std::int64_t cols) const {
    const auto packing = checkpoint_.packing(module);
    if (!packing) return dense({module + ".weight", {rows, cols}});
    if (rows_of(packing->shape) != rows || cols_of(packing->shape) != cols)
      fail(fmt::format("the quantized linear '{}' has the shape [{}, {}], but config.json asks for [{}, {}]",
                       module, rows_of(packing->shape), cols_of(packing->shape), rows, cols));
    for (const TensorSpec& spec : tensors_of(module, packing->shape)) {
      if (!checkpoint_.contains(spec.name)) fail(fmt::format("tensor '{}' is missing", spec.name));
      const TensorSpec found = checkpoint_.spec(spec.name);
      if (found.shape != spec.shape || found.type != spec.type)
        fail(fmt::format("tensor '{}' is {} [{}], but its scheme {} asks for {} [{}]", spec.name,
                         name_of(found.type), fmt::join(found.shape, ", "), packing->scheme,
                         name_of(spec.type), fmt::join(spec.shape, ", ")));
    }
  }

  [[noreturn]] void fail(const std::string& reason) const {
    throw InputError(checkpoint_.folder().string() + ": " + reason);
  }

 private:
  const Checkpoint& checkpoint_;
};

}  // namespace

std::vector<ExpectedTensor> dense_tensors(const ModelConfig& config) {
  const bool is_opt = config.positions == Positions::learned;
  const std::string prefix(module_prefix(config));
  std::vector<ExpectedTensor> out;
  const auto norm = [&](const std::string& module, std::int64_t size) {
    if (!config.norm_affine) return;
    out.push_back({module + ".weight", {size}});
    if (config.norm == Norm::layer) out.push_back({module + ".bias", {size}});
  };

  if (is_opt) {
    // OPT's first two positions belong to padding.
    out.push_back({prefix + "embed_positions.weight", {config.max_positions + 2, config.hidden}});
    if (config.embedding != config.hidden) {
      out.push_back({prefix + "project_in.weight", {config.hidden, config.embedding}});
      out.push_back({prefix + "project_out.weight", {config.embedding, config.hidden}});
    }
  }
  const NormModules norms = norm_modules(config);
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string block = block_prefix(config, i);
    const LayerConfig layer = layer_config(config, i);
    for (const std::string_view module :
         {norms.attention, norms.attention_behind, norms.mlp, norms.mlp_behind})
      if (!module.empty()) norm(block + std::string(module), config.hidden);
    if (layer.mixer == Mixer::delta) {
      const Recurrence& delta = layer.recurrence;
      out.push_back({block + std::string(kDeltaConvolution) + ".weight", {delta.channels, 1, delta.taps}});
      for (const std::string_view module : {kDeltaA, kDeltaB})
        out.push_back({block + std::string(module) + ".weight", {delta.value_heads, config.hidden}});
      for (const std::string_view vector : {kDeltaRates, kDeltaBias})
        out.push_back({block + std::string(vector), {delta.value_heads}});
      out.push_back({block + std::string(kDeltaNorm) + ".weight", {delta.value_dim}});
    }
    if (layer.mixer == Mixer::convolution) {
      const std::string convolution = block + std::string(kConvolution);
      out.push_back({convolution + ".weight", {config.hidden, 1, layer.recurrence.taps}});
      if (layer.recurrence.bias) out.push_back({convolution + ".bias", {config.hidden}});
    }
    if (config.qk_norm && layer.is_attention()) {
      const bool whole = config.qk_norm_whole;
      out.push_back({block + "self_attn.q_norm.weight", {whole ? layer.q_width() : layer.head_dim}});
      out.push_back({block + "self_attn.k_norm.weight", {whole ? layer.kv_width() : layer.head_dim}});
    }
    if (config.sinks && layer.is_attention()) out.push_back({block + std::string(kSinks), {layer.heads}});
    if (!layer.is_mixture()) continue;
    out.push_back({block + std::string(kRouterModule) + ".weight", {layer.experts.count, config.hidden}});
    if (layer.experts.bias)
      out.push_back({block + std::string(kRouterModule) + ".bias", {layer.experts.count}});
    if (layer.experts.shared_gate)
      out.push_back({block + std::string(kSharedGateModule) + ".weight", {1, config.hidden}});
  }
  for (const Matrix& linear : matrices(config)) {
    if (linear.bias) out.push_back({linear.name + ".bias", {linear.out}});
  }
  if (config.final_norm) norm(prefix + (is_opt ? "final_layer_norm" : "norm"), config.hidden);
  return out;
}

void check_shapes(const Checkpoint& checkpoint, const ModelConfig& config) {
  const Checker check(checkpoint);
  const std::string head = std::string(kHeadModule) + ".weight";
  if (!config.tied && checkpoint.contains(embedding_module(config) + ".weight") && !checkpoint.contains(head))
    check.fail(
        fmt::format("tensor '{}' is missing; if the head is the embedding, config.json must say "
                    "\"tie_word_embeddings\": true",
                    head));
  for (const Matrix& matrix : matrices(config)) check.matrix(matrix.name, matrix.out, matrix.in);
  for (const ExpectedTensor& expected : dense_tensors(config)) check.dense(expected);
}

}  // namespace knapsaq
