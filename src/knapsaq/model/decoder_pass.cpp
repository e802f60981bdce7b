#include "knapsaq/model/decoder_pass.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

#include <fmt/core.h>

#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/model/rotation.h"

namespace knapsaq {
namespace {

// OPT's table of positions starts with two rows for padding.
constexpr std::int64_t kPositionOffset = 2;

std::string in_block(std::string_view what, std::int64_t index) {
  return fmt::format("{} in block {}", what, index);
}

}  // namespace

void DecoderPass::prepare_work(std::int64_t rows) {
  if (rows <= work_.rows) return;
  const ModelConfig& config = weights_.config;
  const Widths widest = widths(config);
  const auto make = [&](std::int64_t cols, Element element = Element::working) {
    return weights_.backend->allocate(rows, cols, element);
  };
  work_ = {};  // not the old and the new one at once
  work_.rows = rows;
  work_.x = make(config.hidden);
  work_.q = make(widest.q);
  work_.k = make(widest.kv);
  work_.v = make(widest.kv);
  if (config.attention_gate) work_.attention_gate = make(widest.q);
  work_.attended = make(widest.mixed);
  if (widest.mixer > 0) {
    work_.mixer_in = make(widest.mixer);
    work_.convolved = make(widest.channels);
  }
  if (widest.values > 0) {
    work_.z = make(widest.values);
    work_.a = make(widest.values, Element::full);
    work_.b = make(widest.values, Element::full);
  }
  if (config.parallel) work_.mlp_input = make(config.hidden);
  work_.mlp = make(widest.ffn);
  if (has_norms_behind(config) || config.residual_scale != 1)
    work_.branch = make(config.hidden, Element::full);
}

void DecoderPass::prepare_rotation(std::int64_t length, std::int64_t text) {
  const ModelConfig& config = weights_.config;
  if (config.positions != Positions::rotary) return;
  rotations_.resize(config.ropes.size());
  for (std::size_t i = 0; i < rotations_.size(); ++i) {
    const Rotary& rope = config.ropes[i];
    Rotation& known = rotations_[i];
    const std::int64_t kind = rotation_text(rope.scaling, text);
    if (length <= known.cosines.rows() && kind == known.text) continue;
    const std::int64_t rotated = rope.rotated > 0 ? rope.rotated : config.head_dim;
    const std::int64_t positions = std::max(length, known.cosines.rows());
    const RotationTables tables = rotation_tables(rope.scaling, rope.theta, rotated, positions, text);
    known.cosines = weights_.backend->upload(tables.cosines, positions, rotated / 2);
    known.sines = weights_.backend->upload(tables.sines, positions, rotated / 2);
    known.text = kind;
  }
  if (config.query_scaling.beta == 0 || length <= query_scales_.rows()) return;
  query_scales_ = weights_.backend->upload(query_scales(config.query_scaling, length), length, 1);
}

void DecoderPass::check_tokens(std::span<const std::int32_t> tokens) const {
  const std::int64_t vocab = weights_.config.vocab;
  const auto bad = std::ranges::find_if(tokens, [&](std::int32_t id) { return id < 0 || id >= vocab; });
  if (bad == tokens.end()) return;
  throw InputError(
      fmt::format("token id {} at index {} is outside the model's vocabulary of {}; was the text "
                  "encoded with this model's tokenizer?",
                  *bad, bad - tokens.begin(), vocab));
}

void DecoderPass::embed(std::span<const std::int32_t> tokens,
                        const std::function<std::int64_t(std::int64_t)>& position_of, Array& state) const {
  if (!weights_.embedding) throw std::logic_error("the embedding is not loaded");
  Backend& backend = *weights_.backend;
  const auto rows = static_cast<std::int64_t>(tokens.size());
  if (weights_.project_in) {
    const std::int64_t width = weights_.config.embedding;
    Array narrow = backend.allocate(rows, width, Element::full);
    Array input = backend.allocate(rows, width, Element::working);
    backend.embed(*weights_.embedding, tokens, false, narrow);
    backend.convert(narrow, rows, input);
    add_product(input, rows, *weights_.project_in, false, state);
  } else {
    backend.embed(*weights_.embedding, tokens, false, state);
  }
  if (weights_.config.embedding_scale != 1) backend.scale(state, rows, weights_.config.embedding_scale);
  look(state, rows, [&] { return weights_.matrices.front().name + ".weight"; });
  if (!weights_.positions) return;
  std::vector<std::int32_t> of_rows(tokens.size());
  for (std::int64_t i = 0; i < rows; ++i)
    of_rows[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(position_of(i) + kPositionOffset);
  backend.embed(*weights_.positions, of_rows, true, state);
  look(state, rows, [&] { return weights_.prefix() + "embed_positions.weight"; });
}

AttentionShape DecoderPass::attention_shape(std::int64_t index, const RowLayout& layout) const {
  const ModelConfig& config = weights_.config;
  const BlockWeights& block = weights_.block(index);
  const LayerConfig layer = layer_config(config, index);
  const Rotation* rotation = layer.rope < 0 ? nullptr : &rotations_.at(static_cast<std::size_t>(layer.rope));
  return {.windows = layout.windows,
          .length = layout.length,
          .past = layout.past == nullptr ? 0 : layout.past->length(),
          .heads = layer.heads,
          .kv_heads = layer.kv_heads,
          .head_dim = layer.head_dim,
          .sliding_window = layer.sliding_window,
          .scale = config.attention_scale,
          .softcap = config.attention_softcap,
          .cosines = rotation == nullptr ? nullptr : &rotation->cosines,
          .sines = rotation == nullptr ? nullptr : &rotation->sines,
          .q_norm = config.qk_norm ? &block.q_norm : nullptr,
          .k_norm = config.qk_norm ? &block.k_norm : nullptr,
          .norm_eps = config.norm_eps,
          .sinks = config.sinks ? &block.sinks : nullptr,
          .query_scales = query_scales_.empty() ? nullptr : &query_scales_};
}

void DecoderPass::attend(std::int64_t index, const Array& x, const RowLayout& layout, Array& attended,
                         const InputObserver& observer) {
  if (!layer_config(weights_.config, index).is_attention())
    return recur(index, x, layout, attended, observer);
  const BlockWeights& block = weights_.block(index);
  const AttentionShape shape = attention_shape(index, layout);
  const Weight* const gate = block.of(Role::attention_gate).get();
  Array q = work_.q.narrowed(shape.heads * shape.head_dim);
  Array k = work_.k.narrowed(shape.kv_heads * shape.head_dim);
  Array v = work_.v.narrowed(shape.kv_heads * shape.head_dim);
  Array of_gate = work_.attention_gate.narrowed(gate == nullptr ? 0 : gate->out());
  const std::array<Product, 4> projections = {{{block.of(Role::q).get(), &q, false},
                                               {block.of(Role::k).get(), &k, false},
                                               {block.of(Role::v).get(), &v, false},
                                               {gate, &of_gate, false}}};
  const std::int64_t rows = layout.rows();
  if (observer) observer(weights_.first_of(Stage::attend, index), x, rows);
  Backend& backend = *weights_.backend;
  backend.multiply(x, rows, std::span(projections).first(gate == nullptr ? 3 : 4));
  for (const auto& [role, array] : {std::pair{Role::q, &q}, {Role::k, &k}, {Role::v, &v}})
    look(*array, rows, [this, of = role, index] { return weights_.name_of(of, index); });
  if (!layout.segments.empty()) {
    backend.attend(shape, layout.segments, q, k, v, attended);
  } else if (layout.past == nullptr) {
    backend.attend(shape, q, k, v, attended);
  } else {
    backend.extend(shape, q, k, v, layout.past->block(index), attended);
  }
  look(attended, rows, [&] { return in_block("attention", index); });
  if (gate == nullptr) return;
  look(of_gate, rows, [&] { return weights_.name_of(Role::attention_gate, index); });
  backend.gate(of_gate, rows, attended);
}

ShortConvolution DecoderPass::convolution(std::int64_t index) const {
  const BlockWeights& block = weights_.block(index);
  const bool delta = layer_config(weights_.config, index).mixer == Mixer::delta;
  return {.kernel = &block.convolution,
          .bias = block.convolution_bias.empty() ? nullptr : &block.convolution_bias,
          .silu = delta,
          .gated = !delta};
}

DeltaShape DecoderPass::delta_shape(std::int64_t index) const {
  const BlockWeights& block = weights_.block(index);
  const Recurrence delta = layer_config(weights_.config, index).recurrence;
  return {.key_heads = delta.key_heads,
          .value_heads = delta.value_heads,
          .key_dim = delta.key_dim,
          .value_dim = delta.value_dim,
          .rates = &block.rates,
          .dt_bias = &block.dt_bias};
}

void DecoderPass::recur(std::int64_t index, const Array& x, const RowLayout& layout, Array& mixed,
                        const InputObserver& observer) {
  const BlockWeights& block = weights_.block(index);
  const LayerConfig layer = layer_config(weights_.config, index);
  const std::int64_t rows = layout.rows();
  Backend& backend = *weights_.backend;
  const RowSequences sequences{.windows = layout.windows,
                               .length = layout.length,
                               .segments = layout.segments,
                               .state = layout.past == nullptr ? nullptr : &layout.past->state(index)};
  Array in = work_.mixer_in.narrowed(layer.mixer_width());
  if (observer) observer(weights_.first_of(Stage::attend, index), x, rows);
  if (layer.mixer == Mixer::convolution) {
    add_product(x, rows, *block.of(Role::mixer_in), false, in);
    look(in, rows, [&] { return weights_.name_of(Role::mixer_in, index); });
    backend.short_convolution(sequences, convolution(index), in, mixed);
    return look(mixed, rows, [&] { return in_block("the convolution", index); });
  }
  Array z = work_.z.narrowed(layer.recurrence.value_width());
  Array a = work_.a.narrowed(layer.recurrence.value_heads);
  Array b = work_.b.narrowed(layer.recurrence.value_heads);
  Array convolved = work_.convolved.narrowed(layer.recurrence.channels);
  const std::array products = {Product{block.of(Role::mixer_in).get(), &in, false},
                               Product{block.of(Role::mixer_gate).get(), &z, false},
                               Product{block.a.get(), &a, false}, Product{block.b.get(), &b, false}};
  backend.multiply(x, rows, products);
  look(in, rows, [&] { return weights_.name_of(Role::mixer_in, index); });
  look(z, rows, [&] { return weights_.name_of(Role::mixer_gate, index); });
  look(a, rows, [&] { return block_prefix(weights_.config, index) + std::string(kDeltaA); });
  look(b, rows, [&] { return block_prefix(weights_.config, index) + std::string(kDeltaB); });
  backend.short_convolution(sequences, convolution(index), in, convolved);
  look(convolved, rows, [&] { return in_block("the convolution", index); });
  backend.gated_delta_rule(sequences, delta_shape(index), convolved, a, b, mixed);
  look(mixed, rows, [&] { return in_block("the delta rule", index); });
  backend.gated_norm(mixed, z, block.mixer_norm, rows, mixed);
  look(mixed, rows, [&] { return in_block("the norm behind the delta rule", index); });
}

void DecoderPass::activate(std::int64_t index, const Array& x, std::int64_t rows, Array& mlp,
                           const InputObserver& observer) {
  const BlockWeights& block = weights_.block(index);
  const LayerConfig layer = layer_config(weights_.config, index);
  const Weight* const gate = block.of(Role::gate).get();
  if (observer) observer(weights_.matrix_of(gate == nullptr ? Role::up : Role::gate, index), x, rows);
  const Weight* const up = block.of(Role::up).get();
  weights_.backend->activate(x, rows, gate, *up, layer.activation, mlp);
  if (!looking) return;
  // The input of the activation is not kept.
  Array before = weights_.backend->allocate(rows, layer.ffn, Element::working);
  for (const auto& [role, weight] : {std::pair{Role::gate, gate}, {Role::up, up}}) {
    if (weight == nullptr) continue;
    add_product(x, rows, *weight, false, before);
    look(before, rows, [this, of = role, index] { return weights_.name_of(of, index); });
  }
  look(mlp, rows, [&] { return in_block("the activation", index); });
}

Array DecoderPass::input(std::int64_t index, Stage stage, const PartialPass& pass, std::int64_t rows) {
  const BlockWeights& block = weights_.block(index);
  prepare_work(rows);
  switch (stage) {
    case Stage::attend:
      norm_before(block.attention_norm, pass.hidden.state, rows);
      look(work_.x, rows, [&] { return in_block("the norm before attention", index); });
      return work_.x;
    case Stage::attention_output:
      return pass.attended;
    case Stage::activate:
      if (weights_.config.parallel) return pass.mlp_input;
      norm_before(block.mlp_norm, pass.hidden.state, rows);
      look(work_.x, rows, [&] { return in_block("the norm before the MLP", index); });
      return work_.x;
    case Stage::mlp_output:
      return pass.mlp;
    case Stage::embed:
    case Stage::head:
      break;
  }
  throw std::invalid_argument("input: no stage of a block");
}

void DecoderPass::run(std::int64_t index, Stage stage, PartialPass& pass, const RowLayout& layout,
                      const InputObserver& observer) {
  const ModelConfig& config = weights_.config;
  const BlockWeights& block = weights_.block(index);
  Array& residual = pass.hidden.state;
  const std::int64_t rows = layout.rows();
  const Array x = input(index, stage, pass, rows);
  switch (stage) {
    case Stage::attend:
      prepare_rotation(layout.length, layout.text());
      provide(pass.attended, rows, layer_config(config, index).mixed_width());
      if (config.parallel) {
        provide(pass.mlp_input, rows, config.hidden);
        weights_.backend->norm(residual, block.mlp_norm, rows, pass.mlp_input);
        look(pass.mlp_input, rows, [&] { return in_block("the norm before the MLP", index); });
      }
      return attend(index, x, layout, pass.attended, observer);
    case Stage::attention_output:
      if (observer) observer(weights_.first_of(stage, index), x, rows);
      look_at_product(x, rows, *block.of(Role::o), Role::o, index);
      add_branch(x, rows, *block.of(Role::o), block.attention_norm_behind, residual);
      norm_after(block.attention_norm, residual, rows);
      return look(residual, rows, [&] { return in_block("the residual stream after attention", index); });
    case Stage::activate:
      provide(pass.mlp, rows, layer_config(config, index).ffn);
      if (layer_config(config, index).is_mixture())
        return activate_mixture(index, x, rows, pass.mixture, pass.mlp, observer);
      return activate(index, x, rows, pass.mlp, observer);
    case Stage::mlp_output:
      add_mlp(index, rows, pass, residual, observer);
      norm_after(block.mlp_norm, residual, rows);
      return look(residual, rows, [&] { return in_block("the residual stream after the MLP", index); });
    case Stage::embed:
    case Stage::head:
      break;
  }
  throw std::invalid_argument("run: no stage of a block");
}

void DecoderPass::block(std::int64_t index, Hidden& hidden, const RowLayout& layout,
                        const InputObserver& observer) {
  prepare_work(layout.rows());
  const LayerConfig layer = layer_config(weights_.config, index);
  PartialPass pass{hidden, work_.attended.narrowed(layer.mixed_width()), work_.mlp_input,
                   work_.mlp.narrowed(layer.ffn), std::move(work_.mixture)};
  for (const Stage stage : kStages) run(index, stage, pass, layout, observer);
  work_.mixture = std::move(pass.mixture);
}

Array DecoderPass::attention_output(std::int64_t index, const Array& x, const RowLayout& layout) {
  const std::int64_t rows = layout.rows();
  check_half_input(x, rows);
  prepare_work(rows);
  prepare_rotation(layout.length, layout.text());
  Array out = weights_.backend->allocate(rows, weights_.config.hidden, Element::full);
  Array attended = work_.attended.narrowed(layer_config(weights_.config, index).mixed_width());
  attend(index, x, layout, attended, {});
  add_product(attended, rows, *weights_.block(index).of(Role::o), false, out);
  return out;
}

Array DecoderPass::mlp_output(std::int64_t index, const Array& x, std::int64_t rows) {
  check_half_input(x, rows);
  prepare_work(rows);
  Array out = weights_.backend->allocate(rows, weights_.config.hidden, Element::full);
  const LayerConfig layer = layer_config(weights_.config, index);
  Array mlp = work_.mlp.narrowed(layer.ffn);
  if (layer.is_mixture()) {
    activate_mixture(index, x, rows, work_.mixture, mlp, {});
    add_mixture(index, rows, work_.mixture, mlp, out, {});
    return out;
  }
  activate(index, x, rows, mlp, {});
  add_product(mlp, rows, *weights_.block(index).of(Role::down), false, out);
  return out;
}

void DecoderPass::norm_before(const NormWeights& norm, const Array& residual, std::int64_t rows) {
  if (has_norms_before(weights_.config)) {
    weights_.backend->norm(residual, norm, rows, work_.x);
  } else {
    weights_.backend->convert(residual, rows, work_.x);
  }
}

void DecoderPass::norm_after(const NormWeights& norm, Array& residual, std::int64_t rows) const {
  if (weights_.config.norms == NormPlacement::after_sum)
    weights_.backend->norm(residual, norm, rows, residual);
}

void DecoderPass::add_branch(const Array& in, std::int64_t rows, const Weight& weight,
                             const NormWeights& behind, Array& residual) {
  if (work_.branch.empty()) return add_product(in, rows, weight, true, residual);
  add_product(in, rows, weight, false, work_.branch);
  add_result(work_.branch, rows, behind, residual);
}

void DecoderPass::add_result(Array& branch, std::int64_t rows, const NormWeights& behind, Array& residual) {
  if (has_norms_behind(weights_.config)) weights_.backend->norm(branch, behind, rows, branch);
  weights_.backend->add(branch, rows, weights_.config.residual_scale, residual);
}

void DecoderPass::add_mlp(std::int64_t index, std::int64_t rows, const PartialPass& pass, Array& residual,
                          const InputObserver& observer) {
  const BlockWeights& block = weights_.block(index);
  if (layer_config(weights_.config, index).is_mixture()) {
    if (work_.branch.empty()) return add_mixture(index, rows, pass.mixture, pass.mlp, residual, observer);
    Array branch = weights_.backend->allocate(rows, weights_.config.hidden, Element::full);
    add_mixture(index, rows, pass.mixture, pass.mlp, branch, observer);
    return add_result(branch, rows, block.mlp_norm_behind, residual);
  }
  if (observer) observer(weights_.matrix_of(Role::down, index), pass.mlp, rows);
  look_at_product(pass.mlp, rows, *block.of(Role::down), Role::down, index);
  add_branch(pass.mlp, rows, *block.of(Role::down), block.mlp_norm_behind, residual);
}

void DecoderPass::provide(Array& array, std::int64_t rows, std::int64_t cols, Element element) const {
  if (array.rows() < rows || array.cols() != cols) array = weights_.backend->allocate(rows, cols, element);
}

void DecoderPass::add_product(const Array& in, std::int64_t rows, const Weight& weight, bool accumulate,
                              Array& out) const {
  const Product product{&weight, &out, accumulate};
  weights_.backend->multiply(in, rows, {&product, 1});
}

void DecoderPass::check_half_input(const Array& x, std::int64_t rows) const {
  if (x.element() != Element::working || x.cols() != weights_.config.hidden || rows < 0 || rows > x.rows())
    throw std::invalid_argument("half of a block: input of another shape");
}

void DecoderPass::head_input(const Hidden& hidden, Array& out) {
  const std::int64_t rows = hidden.tokens();
  Array normed = out;
  if (weights_.project_out) {
    prepare_work(rows);
    normed = work_.x;
  }
  if (weights_.config.final_norm) {
    weights_.backend->norm(hidden.state, weights_.final_norm, rows, normed);
  } else {
    weights_.backend->convert(hidden.state, rows, normed);
  }
  look(normed, rows, [] { return std::string("the norm before the output head"); });
  // The head is linear: its input may be scaled instead of its wide result.
  if (weights_.config.logit_scale != 1) weights_.backend->scale(normed, rows, weights_.config.logit_scale);
  if (!weights_.project_out) return;
  add_product(normed, rows, *weights_.project_out, false, out);
  look(out, rows, [&] { return weights_.prefix() + "project_out"; });
}

Array DecoderPass::head_input(const Hidden& hidden) {
  if (!weights_.head) throw std::logic_error("the head is not loaded");
  Array out = weights_.backend->allocate(hidden.tokens(), weights_.config.embedding, Element::working);
  head_input(hidden, out);
  return out;
}

void DecoderPass::multiply_by_head(const Array& input, std::int64_t rows, Array& logits) const {
  add_product(input, rows, *weights_.head, false, logits);
  if (weights_.config.logit_softcap > 0)
    weights_.backend->softcap(logits, rows, weights_.config.logit_softcap);
  look(logits, rows, [] { return std::string("the output head"); });
}

Array DecoderPass::gather(const Array& from, std::span<const RowRun> runs, std::int64_t rows) const {
  Backend& backend = *weights_.backend;
  Array to = backend.allocate(rows, from.cols(), from.element());
  std::int64_t row = 0;
  for (const auto& [first, count] : runs) {
    Array part = backend.view(to, row, count);
    backend.copy(backend.view(from, first, count), count, part);
    row += count;
  }
  return to;
}

std::optional<float> DecoderPass::find_not_finite(const Array& array, std::int64_t rows) const {
  // A few MiB at a time: logits are wide.
  const std::int64_t some = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / array.cols());
  std::vector<float> values;
  for (std::int64_t first = 0; first < rows; first += some) {
    values.resize(static_cast<std::size_t>(std::min(some, rows - first) * array.cols()));
    weights_.backend->download(array, first, values);
    if (const auto bad = first_not_finite(values)) return values[*bad];
  }
  return std::nullopt;
}

void DecoderPass::look_at_product(const Array& in, std::int64_t rows, const Weight& weight, Role role,
                                  std::int64_t index) const {
  if (!looking) return;
  Array product = weights_.backend->allocate(rows, weight.out(), Element::full);
  add_product(in, rows, weight, false, product);
  look(product, rows, [&] { return weights_.name_of(role, index); });
}

void DecoderPass::look_at_logits(const Array& input, std::int64_t rows) const {
  if (!looking) return;
  const std::int64_t vocab = weights_.config.vocab;
  const std::int64_t some = std::max<std::int64_t>(1, (std::int64_t{1} << 22) / vocab);
  for (std::int64_t first = 0; first < rows; first += some) {
    const std::int64_t count = std::min(some, rows - first);
    Array logits = weights_.backend->allocate(count, vocab, Element::full);
    multiply_by_head(weights_.backend->view(input, first, count), count, logits);
  }
}

void DecoderPass::fail(float value, const std::string& layer) const {
  throw NotFiniteError(fmt::format(
      "{}: the model computes no finite numbers on this text: the first output with {} is that of "
      "{}; a weight there or before it is broken or too large",
      weights_.where, std::isnan(value) ? "NaN" : "an infinity", layer));
}

void DecoderPass::fail_without_a_place() const {
  throw NotFiniteError(weights_.where +
                       ": the model computes no finite numbers on this text, and all of them the second "
                       "time: memory or processor are unreliable");
}

std::uint64_t DecoderPass::bytes() const {
  std::uint64_t sum = 0;
  const auto count = [&](const Array& array) {
    sum +=
        static_cast<std::uint64_t>(array.rows() * array.cols()) * weights_.backend->size_of(array.element());
  };
  for (const Array* array :
       {&work_.x, &work_.q, &work_.k, &work_.v, &work_.attention_gate, &work_.attended, &work_.mixer_in,
        &work_.convolved, &work_.z, &work_.a, &work_.b, &work_.mlp_input, &work_.mlp, &work_.branch,
        &work_.mixture.activated, &work_.gathered, &work_.expert_results})
    count(*array);
  for (const Rotation& rotation : rotations_) {
    count(rotation.cosines);
    count(rotation.sines);
  }
  return sum;
}

}  // namespace knapsaq
