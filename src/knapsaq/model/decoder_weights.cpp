#include "knapsaq/model/decoder_weights.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

bool is_opt(const ModelConfig& config) { return config.positions == Positions::learned; }

/// Matrices of a block from a matrix to that of the next expert: gates and ups alternate.
std::int64_t stride_of(Role role) { return role == Role::expert_gate || role == Role::expert_up ? 2 : 1; }

}  // namespace

DecoderWeights::DecoderWeights(const ModelConfig& model, Backend& in, std::string of)
    : config(model),
      backend(&in),
      where(std::move(of)),
      matrices(knapsaq::matrices(model)),
      blocks(static_cast<std::size_t>(model.layers)) {
  for (std::size_t i = 0; i < matrices.size(); ++i)
    if (matrices[i].block >= std::ssize(begin_)) begin_.push_back(i);
  begin_.push_back(matrices.size() - (config.tied ? 0 : 1));
}

const std::shared_ptr<const Weight>& BlockWeights::of(Role role, std::int64_t expert) const {
  static const std::shared_ptr<const Weight> kNone;
  const std::int64_t at = index_of(role, expert);
  return at < 0 ? kNone : matrices[static_cast<std::size_t>(at)];
}

std::int64_t BlockWeights::index_of(Role role, std::int64_t expert) const {
  const int at = first[static_cast<std::size_t>(role)];
  return at < 0 ? at : at + stride_of(role) * expert;
}

NormWeights DecoderWeights::read_norm(const WeightReader& reader, const std::string& module) const {
  NormWeights norm{.kind = config.norm, .eps = config.norm_eps, .scale = {}, .shift = {}};
  if (!config.norm_affine) return norm;
  norm.scale = row(read_scale(reader, module));
  if (config.norm == Norm::layer) norm.shift = row(reader.vector(module + ".bias"));
  return norm;
}

std::vector<float> DecoderWeights::read_scale(const WeightReader& reader, const std::string& module) const {
  std::vector<float> values = reader.vector(module + ".weight");
  for (float& value : values) value += config.norm_offset;
  return values;
}

std::string DecoderWeights::attention_norm_name(std::int64_t index) const {
  return block_prefix(config, index) + std::string(norm_modules(config).attention);
}
std::string DecoderWeights::attention_norm_behind_name(std::int64_t index) const {
  return block_prefix(config, index) + std::string(norm_modules(config).attention_behind);
}
std::string DecoderWeights::mlp_norm_name(std::int64_t index) const {
  return block_prefix(config, index) + std::string(norm_modules(config).mlp);
}
std::string DecoderWeights::mlp_norm_behind_name(std::int64_t index) const {
  return block_prefix(config, index) + std::string(norm_modules(config).mlp_behind);
}
std::string DecoderWeights::q_norm_name(std::int64_t index) const {
  return block_prefix(config, index) + "self_attn.q_norm";
}
std::string DecoderWeights::k_norm_name(std::int64_t index) const {
  return block_prefix(config, index) + "self_attn.k_norm";
}
std::string DecoderWeights::mixer_norm_name(std::int64_t index) const {
  return block_prefix(config, index) + std::string(kDeltaNorm);
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

void DecoderWeights::read_mixer(const WeightReader& reader, std::int64_t index) {
  BlockWeights& block = blocks[static_cast<std::size_t>(index)];
  const std::string prefix = block_prefix(config, index);
  const LayerConfig layer = layer_config(config, index);
  if (layer.is_attention()) {
    if (config.qk_norm) {
      block.q_norm = row(read_scale(reader, q_norm_name(index)));
      block.k_norm = row(read_scale(reader, k_norm_name(index)));
    }
    if (config.sinks) block.sinks = row(reader.vector(prefix + std::string(kSinks)));
    return;
  }
  const bool delta = layer.mixer == Mixer::delta;
  const std::string convolution = prefix + std::string(delta ? kDeltaConvolution : kConvolution);
  // [channels, 1, taps] in files.
  const std::vector<float> kernel = reader.vector(convolution + ".weight");
  const auto channels = static_cast<std::size_t>(layer.recurrence.channels);
  const auto taps = static_cast<std::size_t>(layer.recurrence.taps);
  std::vector<float> by_tap(kernel.size());
  for (std::size_t c = 0; c < channels; ++c)
    for (std::size_t t = 0; t < taps; ++t) by_tap[t * channels + c] = kernel[c * taps + t];
  block.convolution = backend->upload(by_tap, layer.recurrence.taps, layer.recurrence.channels);
  if (layer.recurrence.bias) block.convolution_bias = row(reader.vector(convolution + ".bias"));
  if (!delta) return;
  std::vector<float> rates = reader.vector(prefix + std::string(kDeltaRates));
  for (float& rate : rates) rate = -std::exp(rate);
  block.rates = row(rates);
  block.dt_bias = row(reader.vector(prefix + std::string(kDeltaBias)));
  // This norm's weight is what it multiplies by, whatever the others are.
  block.mixer_norm = {.kind = Norm::rms,
                      .eps = config.norm_eps,
                      .scale = row(reader.vector(mixer_norm_name(index) + ".weight")),
                      .shift = {}};
  block.a = reader.weight(*backend, prefix + std::string(kDeltaA), false);
  block.b = reader.weight(*backend, prefix + std::string(kDeltaB), false);
}

void DecoderWeights::read_block(const WeightReader& reader, std::int64_t index) {
  BlockWeights& block = blocks[static_cast<std::size_t>(index)];
  const std::string prefix = block_prefix(config, index);
  const NormModules norms = norm_modules(config);
  for (const auto& [module, norm] : {std::pair{norms.attention, &block.attention_norm},
                                     {norms.attention_behind, &block.attention_norm_behind},
                                     {norms.mlp, &block.mlp_norm},
                                     {norms.mlp_behind, &block.mlp_norm_behind}})
    if (!module.empty()) *norm = read_norm(reader, prefix + std::string(module));
  read_mixer(reader, index);
  const LayerConfig layer = layer_config(config, index);
  if (layer.is_mixture())
    block.router = reader.weight(*backend, prefix + std::string(kRouterModule), layer.experts.bias);
  if (layer.experts.shared_gate)
    block.shared_gate = reader.weight(*backend, prefix + std::string(kSharedGateModule), false);

  const std::span<const Matrix> all = of_block(index);
  block.first.fill(-1);
  block.matrices.resize(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    int& first = block.first[static_cast<std::size_t>(all[i].role)];
    if (first < 0) first = static_cast<int>(i);
    block.matrices[i] = reader.weight(*backend, all[i].name, all[i].bias);
  }
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
    if (module == attention_norm_behind_name(index)) return of(block.attention_norm_behind);
    if (module == mlp_norm_name(index)) return of(block.mlp_norm);
    if (module == mlp_norm_behind_name(index)) return of(block.mlp_norm_behind);
    if (module == q_norm_name(index) && is_scale) return &block.q_norm;
    if (module == k_norm_name(index) && is_scale) return &block.k_norm;
    if (module == mixer_norm_name(index) && is_scale) return &block.mixer_norm.scale;
  }
  return nullptr;
}

void DecoderWeights::set_norm(std::string_view tensor, std::span<const float> values) {
  Array* const vector = norm_vector(tensor);
  if (vector == nullptr || vector->empty() || vector->cols() != std::ssize(values))
    throw std::invalid_argument("set_norm: not a loaded norm's vector of this size: " + std::string(tensor));
  std::vector<float> sum(values.begin(), values.end());
  if (tensor.ends_with(".weight") && !tensor.ends_with(std::string(kDeltaNorm) + ".weight"))
    for (float& value : sum) value += config.norm_offset;
  *vector = backend->upload(sum, 1, std::ssize(sum));
}

const BlockWeights& DecoderWeights::block(std::int64_t index) const {
  const BlockWeights& found = blocks.at(static_cast<std::size_t>(index));
  if (found.matrices.empty()) throw std::logic_error(fmt::format("block {} is not loaded", index));
  return found;
}

std::span<const Matrix> DecoderWeights::of_block(std::int64_t index) const {
  const std::size_t begin = begin_.at(static_cast<std::size_t>(index));
  return std::span(matrices).subspan(begin, begin_.at(static_cast<std::size_t>(index) + 1) - begin);
}

const Matrix& DecoderWeights::matrix_of(Role role, std::int64_t index, std::int64_t expert) const {
  const std::span<const Matrix> all = of_block(index);
  const auto found = std::ranges::find(all, role, &Matrix::role);
  const std::int64_t at = found - all.begin() + (expert < 0 ? 0 : stride_of(role) * expert);
  if (found == all.end() || at >= std::ssize(all) || all[static_cast<std::size_t>(at)].expert != expert)
    throw std::logic_error(fmt::format("block {} has no such matrix", index));
  return all[static_cast<std::size_t>(at)];
}

const Matrix& DecoderWeights::first_of(Stage stage, std::int64_t index) const {
  return *std::ranges::find_if(of_block(index),
                               [&](const Matrix& matrix) { return stage_of(matrix.role) == stage; });
}

std::string DecoderWeights::name_of(Role role, std::int64_t index, std::int64_t expert) const {
  return fmt::format("{} in block {}", matrix_of(role, index, expert).name, index);
}

std::shared_ptr<const Weight>* DecoderWeights::slot(const Matrix& matrix) {
  if (!matrix.in_block()) return &head;
  BlockWeights& block = blocks[static_cast<std::size_t>(matrix.block)];
  if (block.matrices.empty()) return nullptr;
  return &block.matrices[matrix.number - begin_[static_cast<std::size_t>(matrix.block)]];
}
const std::shared_ptr<const Weight>* DecoderWeights::slot(const Matrix& matrix) const {
  return const_cast<DecoderWeights&>(*this).slot(matrix);  // which changes nothing
}

std::size_t DecoderWeights::number_of(std::string_view name) const {
  const auto matrix = std::ranges::find(matrices, name, &Matrix::name);
  if (matrix == matrices.end()) throw UsageError(fmt::format("the model has no matrix '{}'", name));
  return matrix->number;
}

void DecoderWeights::require_loaded(const Matrix& matrix) const {
  if (matrix.is_looked_up() && !embedding) throw std::logic_error("the embedding is not loaded");
  if (!matrix.is_multiplied()) return;
  if (const auto* place = slot(matrix); place != nullptr && *place != nullptr) return;
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
  if (matrix.weight) *slot(place) = std::move(matrix.weight);
  if (matrix.table) embedding = std::move(matrix.table);
}

PreparedMatrix DecoderWeights::placed(std::size_t number) const {
  const Matrix& place = matrices.at(number);
  require_loaded(place);
  PreparedMatrix matrix;
  if (place.is_multiplied()) matrix.weight = *slot(place);
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
    for (const auto& weight : one.matrices) memory.weights += of_weight(weight.get());
    for (const auto* weight : {&one.router, &one.shared_gate, &one.a, &one.b})
      memory.weights += of_weight(weight->get());
    for (const NormWeights* norm : {&one.attention_norm, &one.attention_norm_behind, &one.mlp_norm,
                                    &one.mlp_norm_behind, &one.mixer_norm})
      memory.weights += of_norm(*norm);
    for (const Array* vector : {&one.q_norm, &one.k_norm, &one.sinks, &one.convolution, &one.convolution_bias,
                                &one.rates, &one.dt_bias})
      memory.weights += of_array(*vector);
  }
  memory.head = of_weight(head.get()) + of_weight(project_out.get()) + of_norm(final_norm);
  for (const Table* table : std::initializer_list<const Table*>{embedding.get(), positions.get()})
    if (table != nullptr) memory.embedding += table->bytes();
  memory.embedding += of_weight(project_in.get());
  return memory;
}

}  // namespace knapsaq
