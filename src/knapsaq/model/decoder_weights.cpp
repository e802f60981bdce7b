#include "knapsaq/model/decoder_weights.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

bool is_opt(const ModelConfig& config) { return config.positions == Positions::learned; }

}  // namespace

DecoderWeights::DecoderWeights(const ModelConfig& model, Backend& in, std::string of)
    : config(model),
      backend(&in),
      where(std::move(of)),
      matrices(knapsaq::matrices(model)),
      blocks(static_cast<std::size_t>(model.layers)) {
  if (config.layers > 0) per_block_ = linears(config).size() / blocks.size();
}

NormWeights DecoderWeights::read_norm(const WeightReader& reader, const std::string& module) const {
  NormWeights norm{.kind = config.norm, .eps = config.norm_eps, .scale = {}, .shift = {}};
  if (!config.norm_affine) return norm;
  norm.scale = row(reader.vector(module + ".weight"));
  if (config.norm == Norm::layer) norm.shift = row(reader.vector(module + ".bias"));
  return norm;
}

std::string DecoderWeights::attention_norm_name(std::int64_t index) const {
  return block_prefix(config, index) + (is_opt(config) ? "self_attn_layer_norm" : "input_layernorm");
}
std::string DecoderWeights::mlp_norm_name(std::int64_t index) const {
  return block_prefix(config, index) + (is_opt(config) ? "final_layer_norm" : "post_attention_layernorm");
}
std::string DecoderWeights::q_norm_name(std::int64_t index) const {
  return block_prefix(config, index) + "self_attn.q_norm";
}
std::string DecoderWeights::k_norm_name(std::int64_t index) const {
  return block_prefix(config, index) + "self_attn.k_norm";
}
std::string DecoderWeights::final_norm_name() const {
  return prefix() + (is_opt(config) ? "final_layer_norm" : "norm");
}

Array DecoderWeights::row(const std::vector<float>& values) const {
  return backend->upload(values, 1, static_cast<std::int64_t>(values.size()));
}

void DecoderWeights::read_embedding(const WeightReader& reader) {
  embedding = reader.table(*backend, matrices.front().name);
  if (config.positions == Positions::learned)
    positions = backend->prepare_table(reader.tensor(prefix() + "embed_positions.weight"));
  if (config.embedding != config.hidden) project_in = reader.weight(*backend, prefix() + "project_in", false);
}

void DecoderWeights::read_head(const WeightReader& reader) {
  head = reader.weight(*backend, config.tied ? matrices.front().name : matrices.back().name, false);
  if (config.embedding != config.hidden)
    project_out = reader.weight(*backend, prefix() + "project_out", false);
  if (config.final_norm) final_norm = read_norm(reader, final_norm_name());
}

void DecoderWeights::read_block(const WeightReader& reader, std::int64_t index) {
  BlockWeights& block = blocks[static_cast<std::size_t>(index)];
  block.attention_norm = read_norm(reader, attention_norm_name(index));
  block.mlp_norm = read_norm(reader, mlp_norm_name(index));
  if (config.qk_norm) {
    block.q_norm = row(reader.vector(q_norm_name(index) + ".weight"));
    block.k_norm = row(reader.vector(k_norm_name(index) + ".weight"));
  }
  for (const Matrix& linear : of_block(index))
    slot(linear) = reader.weight(*backend, linear.name, linear.bias);
}

Array* DecoderWeights::norm_vector(std::string_view tensor) {
  const bool is_scale = tensor.ends_with(".weight");
  if (!is_scale && !tensor.ends_with(".bias")) return nullptr;
  const std::string_view module = tensor.substr(0, tensor.rfind('.'));
  const auto of = [&](NormWeights& norm) { return is_scale ? &norm.scale : &norm.shift; };
  if (module == final_norm_name()) return of(final_norm);
  for (std::int64_t index = 0; index < config.layers; ++index) {
    BlockWeights& block = blocks[static_cast<std::size_t>(index)];
    if (module == attention_norm_name(index)) return of(block.attention_norm);
    if (module == mlp_norm_name(index)) return of(block.mlp_norm);
    if (module == q_norm_name(index) && is_scale) return &block.q_norm;
    if (module == k_norm_name(index) && is_scale) return &block.k_norm;
  }
  return nullptr;
}

void DecoderWeights::set_norm(std::string_view tensor, std::span<const float> values) {
  Array* const vector = norm_vector(tensor);
  if (vector == nullptr || vector->empty() || vector->cols() != std::ssize(values))
    throw std::invalid_argument("set_norm: not a loaded norm's vector of this size: " + std::string(tensor));
  *vector = backend->upload(values, 1, std::ssize(values));
}

const BlockWeights& DecoderWeights::block(std::int64_t index) const {
  const BlockWeights& found = blocks.at(static_cast<std::size_t>(index));
  if (found.down == nullptr) throw std::logic_error(fmt::format("block {} is not loaded", index));
  return found;
}

std::span<const Matrix> DecoderWeights::of_block(std::int64_t index) const {
  // The embedding comes first.
  return std::span(matrices).subspan(1 + static_cast<std::size_t>(index) * per_block_, per_block_);
}

const Matrix& DecoderWeights::first_of(Stage stage, std::int64_t index) const {
  return *std::ranges::find_if(of_block(index),
                               [&](const Matrix& matrix) { return stage_of(matrix.role) == stage; });
}

std::string DecoderWeights::name_of(Role role, std::int64_t index) const {
  const Matrix& matrix = *std::ranges::find(of_block(index), role, &Matrix::role);
  return fmt::format("{} in block {}", matrix.name, index);
}

std::shared_ptr<const Weight>& DecoderWeights::slot(const Matrix& matrix) {
  if (!matrix.in_block()) return head;
  BlockWeights& block = blocks[static_cast<std::size_t>(matrix.block)];
  switch (matrix.role) {
    case Role::q:
      return block.q;
    case Role::k:
      return block.k;
    case Role::v:
      return block.v;
    case Role::o:
      return block.o;
    case Role::gate:
      return block.gate;
    case Role::up:
      return block.up;
    case Role::down:
      return block.down;
    default:
      throw std::logic_error("no place for " + matrix.name);
  }
}
const std::shared_ptr<const Weight>& DecoderWeights::slot(const Matrix& matrix) const {
  return const_cast<DecoderWeights&>(*this).slot(matrix);  // which changes nothing
}

std::size_t DecoderWeights::number_of(std::string_view name) const {
  const auto matrix = std::ranges::find(matrices, name, &Matrix::name);
  if (matrix == matrices.end()) throw UsageError(fmt::format("the model has no matrix '{}'", name));
  return matrix->number;
}

void DecoderWeights::require_loaded(const Matrix& matrix) const {
  if (matrix.is_looked_up() && !embedding) throw std::logic_error("the embedding is not loaded");
  if (!matrix.is_multiplied() || slot(matrix)) return;
  throw std::logic_error(matrix.in_block() ? fmt::format("block {} is not loaded", matrix.block)
                                           : std::string("the head is not loaded"));
}

void DecoderWeights::place(std::size_t number, PreparedMatrix matrix) {
  const Matrix& place = matrices.at(number);
  require_loaded(place);
  if ((matrix.weight != nullptr) != place.is_multiplied() ||
      (matrix.table != nullptr) != place.is_looked_up())
    throw std::invalid_argument("place: prepared for another matrix");
  if (matrix.weight && (matrix.weight->out() != place.out || matrix.weight->in() != place.in))
    throw std::invalid_argument("place: another shape");
  if (matrix.weight) slot(place) = std::move(matrix.weight);
  if (matrix.table) embedding = std::move(matrix.table);
}

PreparedMatrix DecoderWeights::placed(std::size_t number) const {
  const Matrix& place = matrices.at(number);
  require_loaded(place);
  PreparedMatrix matrix;
  if (place.is_multiplied()) matrix.weight = slot(place);
  if (place.is_looked_up()) matrix.table = embedding;
  return matrix;
}

DecoderMemory DecoderWeights::memory() const {
  const auto of_weight = [](const Weight* weight) -> std::uint64_t {
    return weight == nullptr ? 0 : weight->bytes() + weight->bias().size_bytes();
  };
  const auto of_array = [&](const Array& array) {
    return static_cast<std::uint64_t>(array.rows() * array.cols()) * backend->size_of(array.element());
  };
  const auto of_norm = [&](const NormWeights& norm) { return of_array(norm.scale) + of_array(norm.shift); };
  DecoderMemory memory;
  for (const BlockWeights& one : blocks) {
    for (const auto* weight : {&one.q, &one.k, &one.v, &one.o, &one.gate, &one.up, &one.down})
      memory.weights += of_weight(weight->get());
    memory.weights +=
        of_norm(one.attention_norm) + of_norm(one.mlp_norm) + of_array(one.q_norm) + of_array(one.k_norm);
  }
  memory.head = of_weight(head.get()) + of_weight(project_out.get()) + of_norm(final_norm);
  for (const Table* table : std::initializer_list<const Table*>{embedding.get(), positions.get()})
    if (table != nullptr) memory.embedding += table->bytes();
  memory.embedding += of_weight(project_in.get());
  return memory;
}

}  // namespace knapsaq
