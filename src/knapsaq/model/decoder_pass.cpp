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
  const std::int64_t kv = config.kv_heads * config.head_dim;
  const std::int64_t width = config.heads * config.head_dim;
  const auto make = [&](std::int64_t cols) {
    return weights_.backend->allocate(rows, cols, Element::working);
  };
  work_ = {.rows = rows,
           .x = make(config.hidden),
           .q = make(width),
           .k = make(kv),
           .v = make(kv),
           .attended = make(width),
           .mlp = make(config.ffn)};
}

void DecoderPass::prepare_rotation(std::int64_t length) {
  const ModelConfig& config = weights_.config;
  if (config.positions != Positions::rotary || length <= cosines_.rows()) return;
  const RotationTables tables = rotation_tables(config, length);
  cosines_ = weights_.backend->upload(tables.cosines, length, config.head_dim / 2);
  sines_ = weights_.backend->upload(tables.sines, length, config.head_dim / 2);
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
  const bool rotary = config.positions == Positions::rotary;
  return {.windows = layout.windows,
          .length = layout.length,
          .past = layout.past == nullptr ? 0 : layout.past->length(),
          .heads = layer.heads,
          .kv_heads = layer.kv_heads,
          .head_dim = layer.head_dim,
          .sliding_window = layer.sliding_window,
          .cosines = rotary ? &cosines_ : nullptr,
          .sines = rotary ? &sines_ : nullptr,
          .q_norm = config.qk_norm ? &block.q_norm : nullptr,
          .k_norm = config.qk_norm ? &block.k_norm : nullptr,
          .norm_eps = config.norm_eps};
}

void DecoderPass::attend(std::int64_t index, const Array& x, const RowLayout& layout, Array& attended,
                         const InputObserver& observer) {
  const BlockWeights& block = weights_.block(index);
  const AttentionShape shape = attention_shape(index, layout);
  const std::array projections = {Product{block.q.get(), &work_.q, false},
                                  Product{block.k.get(), &work_.k, false},
                                  Product{block.v.get(), &work_.v, false}};
  const std::int64_t rows = layout.rows();
  if (observer) observer(weights_.first_of(Stage::attend, index), x, rows);
  Backend& backend = *weights_.backend;
  backend.multiply(x, rows, projections);
  for (const auto& [role, array] : {std::pair{Role::q, &work_.q}, {Role::k, &work_.k}, {Role::v, &work_.v}})
    look(*array, rows, [this, of = role, index] { return weights_.name_of(of, index); });
  if (!layout.segments.empty()) {
    backend.attend(shape, layout.segments, work_.q, work_.k, work_.v, attended);
  } else if (layout.past == nullptr) {
    backend.attend(shape, work_.q, work_.k, work_.v, attended);
  } else {
    backend.extend(shape, work_.q, work_.k, work_.v, layout.past->block(index), attended);
  }
  look(attended, rows, [&] { return in_block("attention", index); });
}

void DecoderPass::activate(std::int64_t index, const Array& x, std::int64_t rows, Array& mlp,
                           const InputObserver& observer) {
  const BlockWeights& block = weights_.block(index);
  if (observer) observer(weights_.first_of(Stage::activate, index), x, rows);
  weights_.backend->activate(x, rows, block.gate.get(), *block.up,
                             layer_config(weights_.config, index).activation, mlp);
  if (!looking) return;
  // The input of the activation is not kept.
  Array before = weights_.backend->allocate(rows, weights_.config.ffn, Element::working);
  for (const auto& [role, weight] : {std::pair{Role::gate, block.gate.get()}, {Role::up, block.up.get()}}) {
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
      prepare_rotation(layout.length);
      provide(pass.attended, rows, layer_config(config, index).q_width());
      return attend(index, x, layout, pass.attended, observer);
    case Stage::attention_output:
      if (observer) observer(weights_.first_of(stage, index), x, rows);
      look_at_product(x, rows, *block.o, Role::o, index);
      add_product(x, rows, *block.o, true, residual);
      norm_after(block.attention_norm, residual, rows);
      return look(residual, rows, [&] { return in_block("the residual stream after attention", index); });
    case Stage::activate:
      provide(pass.mlp, rows, layer_config(config, index).ffn);
      return activate(index, x, rows, pass.mlp, observer);
    case Stage::mlp_output:
      if (observer) observer(weights_.first_of(stage, index), x, rows);
      look_at_product(x, rows, *block.down, Role::down, index);
      add_product(x, rows, *block.down, true, residual);
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
  PartialPass pass{hidden, work_.attended, work_.mlp};
  for (const Stage stage : kStages) run(index, stage, pass, layout, observer);
}

Array DecoderPass::attention_output(std::int64_t index, const Array& x, const RowLayout& layout) {
  const std::int64_t rows = layout.rows();
  check_half_input(x, rows);
  prepare_work(rows);
  prepare_rotation(layout.length);
  Array out = weights_.backend->allocate(rows, weights_.config.hidden, Element::full);
  attend(index, x, layout, work_.attended, {});
  add_product(work_.attended, rows, *weights_.block(index).o, false, out);
  return out;
}

Array DecoderPass::mlp_output(std::int64_t index, const Array& x, std::int64_t rows) {
  check_half_input(x, rows);
  prepare_work(rows);
  Array out = weights_.backend->allocate(rows, weights_.config.hidden, Element::full);
  activate(index, x, rows, work_.mlp, {});
  add_product(work_.mlp, rows, *weights_.block(index).down, false, out);
  return out;
}

void DecoderPass::norm_before(const NormWeights& norm, const Array& residual, std::int64_t rows) {
  if (weights_.config.norm_before) {
    weights_.backend->norm(residual, norm, rows, work_.x);
  } else {
    weights_.backend->convert(residual, rows, work_.x);
  }
}

void DecoderPass::norm_after(const NormWeights& norm, Array& residual, std::int64_t rows) const {
  if (!weights_.config.norm_before) weights_.backend->norm(residual, norm, rows, residual);
}

void DecoderPass::provide(Array& array, std::int64_t rows, std::int64_t cols) const {
  if (array.rows() < rows || array.cols() != cols)
    array = weights_.backend->allocate(rows, cols, Element::working);
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

template <class Layer>
void DecoderPass::look(const Array& array, std::int64_t rows, const Layer& layer) const {
  if (!looking || array.cols() == 0) return;
  // A few MiB at a time: logits are wide.
  const std::int64_t some = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / array.cols());
  std::vector<float> values;
  for (std::int64_t first = 0; first < rows; first += some) {
    values.resize(static_cast<std::size_t>(std::min(some, rows - first) * array.cols()));
    weights_.backend->download(array, first, values);
    if (const auto bad = first_not_finite(values)) fail(values[*bad], layer());
  }
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
  for (const Array* array :
       {&work_.x, &work_.q, &work_.k, &work_.v, &work_.attended, &work_.mlp, &cosines_, &sines_})
    sum += static_cast<std::uint64_t>(array->rows() * array->cols()) *
           weights_.backend->size_of(array->element());
  return sum;
}

}  // namespace knapsaq
