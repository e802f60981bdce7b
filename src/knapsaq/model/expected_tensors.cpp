#include "knapsaq/model/expected_tensors.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

std::string_view prefix_of(const ModelConfig& config) {
  return config.positions == Positions::learned ? "model.decoder." : "model.";
}

class Checker {
 public:
  explicit Checker(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  void dense(const ExpectedTensor& expected) const {
    if (!checkpoint_.contains(expected.name))
      fail(fmt::format("tensor '{}' is missing; config.json asks for it with the shape [{}]", expected.name,
                       fmt::join(expected.shape, ", ")));
    const TensorView found = checkpoint_.tensor(expected.name);
    if (found.shape != expected.shape)
      fail(fmt::format("tensor '{}' has the shape [{}], but config.json asks for [{}]", expected.name,
                       fmt::join(found.shape, ", "), fmt::join(expected.shape, ", ")));
    if (!is_weight_type(found.type))
      fail(fmt::format("tensor '{}' is of type {}; weights are F16, BF16 or F32", expected.name,
                       name_of(found.type)));
  }

  void linear(const Linear& linear) const {
    const auto packing = checkpoint_.packing(linear.name);
    if (!packing) return dense({linear.name + ".weight", {linear.out, linear.in}});
    if (rows_of(packing->shape) != linear.out || cols_of(packing->shape) != linear.in)
      fail(fmt::format("the quantized linear '{}' has the shape [{}, {}], but config.json asks for [{}, {}]",
                       linear.name, rows_of(packing->shape), cols_of(packing->shape), linear.out, linear.in));
    for (const TensorSpec& spec : tensors_of(linear.name, packing->shape)) {
      if (!checkpoint_.contains(spec.name)) fail(fmt::format("tensor '{}' is missing", spec.name));
      const TensorView found = checkpoint_.tensor(spec.name);
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

std::string embedding_name(const ModelConfig& config) {
  return std::string(prefix_of(config)) + "embed_tokens.weight";
}

std::vector<ExpectedTensor> dense_tensors(const ModelConfig& config) {
  const bool is_opt = config.positions == Positions::learned;
  const std::string prefix(prefix_of(config));
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
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string block = fmt::format("{}layers.{}.", prefix, i);
    norm(block + (is_opt ? "self_attn_layer_norm" : "input_layernorm"), config.hidden);
    norm(block + (is_opt ? "final_layer_norm" : "post_attention_layernorm"), config.hidden);
    if (config.qk_norm) {
      norm(block + "self_attn.q_norm", config.head_dim);
      norm(block + "self_attn.k_norm", config.head_dim);
    }
  }
  for (const Linear& linear : linears(config)) {
    if (linear.bias) out.push_back({linear.name + ".bias", {linear.out}});
  }
  if (config.final_norm) norm(prefix + (is_opt ? "final_layer_norm" : "norm"), config.hidden);
  return out;
}

void check_shapes(const Checkpoint& checkpoint, const ModelConfig& config) {
  const Checker check(checkpoint);
  const std::vector<std::int64_t> vocabulary{config.vocab, config.embedding};
  const bool has_embedding = checkpoint.contains(embedding_name(config));
  const bool has_head = checkpoint.contains(kHeadName);
  if (config.tied && !has_embedding && !has_head)
    check.fail(fmt::format("has neither tensor '{}' nor '{}', one of which the tied embedding needs",
                           embedding_name(config), kHeadName));
  if (!config.tied && has_embedding && !has_head)
    check.fail(
        fmt::format("tensor '{}' is missing; if the head is the embedding, config.json must say "
                    "\"tie_word_embeddings\": true",
                    kHeadName));
  if (!config.tied || has_embedding) check.dense({embedding_name(config), vocabulary});
  if (!config.tied || has_head) check.dense({std::string(kHeadName), vocabulary});
  for (const ExpectedTensor& expected : dense_tensors(config)) check.dense(expected);
  for (const Linear& linear : linears(config)) check.linear(linear);
}

}  // namespace knapsaq
