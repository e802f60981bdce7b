#include "knapsaq/model/decoder_backward.h"

#include <algorithm>
#include <string>
#include <vector>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/model/decoder_impl.h"

namespace knapsaq {
namespace {

// Rows whose gradients by the logits are in memory at once: at 128,000 tokens of vocabulary 128 MiB in bf16,
// and enough rows for products at full speed.
constexpr std::int64_t kHeadRows = 512;

std::vector<float> to_floats(std::span<const double> values) { return {values.begin(), values.end()}; }

}  // namespace

void DecoderBackward::prepare_work(std::int64_t rows) {
  if (rows <= work_.rows) return;
  const ModelConfig& config = weights_.config;
  const std::int64_t width = config.heads * config.head_dim;
  const std::int64_t kv = config.kv_heads * config.head_dim;
  const auto make = [&](std::int64_t cols, Element element = Element::working) {
    return weights_.backend->allocate(rows, cols, element);
  };
  work_ = {};  // not the old and the new one at once
  work_.rows = rows;
  for (Array* array : {&work_.attention_sum, &work_.middle, &work_.of_input})
    *array = make(config.hidden, Element::full);
  if (!config.norm_before) work_.mlp_sum = make(config.hidden, Element::full);
  for (Array* array : {&work_.attention_input, &work_.mlp_input, &work_.of_output})
    *array = make(config.hidden);
  for (Array* array : {&work_.q, &work_.attended, &work_.of_q, &work_.of_attended}) *array = make(width);
  for (Array* array : {&work_.k, &work_.v, &work_.of_k, &work_.of_v}) *array = make(kv);
  for (Array* array : {&work_.up, &work_.mlp, &work_.of_mlp}) *array = make(config.ffn);
  if (config.gated_mlp)
    for (Array* array : {&work_.gate, &work_.of_gate}) *array = make(config.ffn);
}

const Weight& DecoderBackward::transposed(Transposed& place,
                                          const std::shared_ptr<const Weight>& weight) const {
  if (place.of != weight) {
    place.of.reset();  // what is cancelled leaves no half of a matrix
    place.weight = weights_.backend->transposed(*weight, std::move(place.weight));
    place.of = weight;
  }
  return *place.weight;
}

void DecoderBackward::multiply(const Array& in, std::int64_t rows, const Weight& weight, bool accumulate,
                               Array& out) const {
  const Product product{&weight, &out, accumulate};
  weights_.backend->multiply(in, rows, {&product, 1});
}

void DecoderBackward::tell(const GradientObserver& observer, Role role, std::int64_t index, const Array& x,
                           const Array& gradient, std::int64_t rows) const {
  if (!observer.matrix) return;
  const auto block = weights_.of_block(index);
  observer.matrix(*std::ranges::find(block, role, &Matrix::role), x, gradient, 0, rows);
}

void DecoderBackward::norm_backward(const Array& in, const NormWeights& norm, const std::string& name,
                                    std::int64_t rows, const Array& from, Array& gradient,
                                    const GradientObserver& observer) const {
  NormGradient sums;
  if (observer.norm) {
    sums.scale.resize(static_cast<std::size_t>(norm.scale.cols()));
    sums.shift.resize(static_cast<std::size_t>(norm.shift.cols()));
  }
  weights_.backend->norm_backward(in, norm, rows, from, gradient, observer.norm ? &sums : nullptr);
  if (observer.norm && !sums.scale.empty()) observer.norm(name, to_floats(sums.scale), to_floats(sums.shift));
}

void DecoderBackward::norm_behind(const Array& in, const NormWeights& norm, const std::string& name,
                                  std::int64_t rows, Array& gradient,
                                  const GradientObserver& observer) const {
  Array of_sum = weights_.backend->allocate(rows, gradient.cols(), Element::full);
  norm_backward(in, norm, name, rows, gradient, of_sum, observer);
  gradient = of_sum;
}

void DecoderBackward::forward(std::int64_t index, const Hidden& before, const RowLayout& layout) {
  Backend& backend = *weights_.backend;
  const BlockWeights& block = weights_.block(index);
  const bool norm_before = weights_.config.norm_before;
  const std::int64_t rows = layout.rows();
  const auto input = [&](const Array& stream, const NormWeights& norm, Array& out) {
    if (norm_before) {
      backend.norm(stream, norm, rows, out);
    } else {
      backend.convert(stream, rows, out);
    }
  };
  input(before.state, block.attention_norm, work_.attention_input);
  const std::array projections = {Product{block.q.get(), &work_.q, false},
                                  Product{block.k.get(), &work_.k, false},
                                  Product{block.v.get(), &work_.v, false}};
  backend.multiply(work_.attention_input, rows, projections);
  backend.attend(pass_.attention_shape(index, layout), work_.q, work_.k, work_.v, work_.attended);
  backend.copy(before.state, rows, work_.attention_sum);
  multiply(work_.attended, rows, *block.o, true, work_.attention_sum);
  if (norm_before) {
    work_.middle = work_.attention_sum;
  } else {
    backend.norm(work_.attention_sum, block.attention_norm, rows, work_.middle);
  }
  input(work_.middle, block.mlp_norm, work_.mlp_input);
  multiply(work_.mlp_input, rows, *block.up, false, work_.up);
  if (block.gate) multiply(work_.mlp_input, rows, *block.gate, false, work_.gate);
  if (norm_before) return;
  // The input of the norm behind the MLP.
  const Activation activation = layer_config(weights_.config, index).activation;
  backend.activate(work_.mlp_input, rows, block.gate.get(), *block.up, activation, work_.mlp);
  backend.copy(work_.middle, rows, work_.mlp_sum);
  multiply(work_.mlp, rows, *block.down, true, work_.mlp_sum);
}

void DecoderBackward::block(std::int64_t index, const Hidden& before, Array& gradient,
                            const GradientObserver& observer) {
  const std::int64_t rows = before.tokens();
  const RowLayout layout{.windows = before.windows, .length = before.length};
  if (gradient.element() != Element::full || gradient.cols() != weights_.config.hidden ||
      gradient.rows() < rows)
    throw std::invalid_argument("block_backward: gradient of another shape");
  prepare_work(rows);
  pass_.prepare_rotation(before.length);
  forward(index, before, layout);
  mlp_backward(index, rows, gradient, observer);
  attention_backward(index, before, layout, gradient, observer);
}

void DecoderBackward::mlp_backward(std::int64_t index, std::int64_t rows, Array& gradient,
                                   const GradientObserver& observer) {
  Backend& backend = *weights_.backend;
  const BlockWeights& block = weights_.block(index);
  const bool norm_before = weights_.config.norm_before;
  const std::string norm = weights_.mlp_norm_name(index);
  if (!norm_before) norm_behind(work_.mlp_sum, block.mlp_norm, norm, rows, gradient, observer);
  backend.convert(gradient, rows, work_.of_output);
  multiply(work_.of_output, rows, transposed(of_block_[6], block.down), false, work_.of_mlp);
  backend.activate_backward(block.gate ? &work_.gate : nullptr, work_.up, rows,
                            layer_config(weights_.config, index).activation, work_.of_mlp, work_.mlp,
                            block.gate ? &work_.of_gate : nullptr, work_.of_mlp);
  tell(observer, Role::down, index, work_.mlp, work_.of_output, rows);
  tell(observer, Role::up, index, work_.mlp_input, work_.of_mlp, rows);
  Array& of_input = norm_before ? work_.of_input : gradient;
  multiply(work_.of_mlp, rows, transposed(of_block_[5], block.up), !norm_before, of_input);
  if (block.gate) {
    tell(observer, Role::gate, index, work_.mlp_input, work_.of_gate, rows);
    multiply(work_.of_gate, rows, transposed(of_block_[4], block.gate), true, of_input);
  }
  if (norm_before)
    norm_backward(work_.middle, block.mlp_norm, norm, rows, work_.of_input, gradient, observer);
}

void DecoderBackward::attention_backward(std::int64_t index, const Hidden& before, const RowLayout& layout,
                                         Array& gradient, const GradientObserver& observer) {
  Backend& backend = *weights_.backend;
  const BlockWeights& block = weights_.block(index);
  const std::int64_t rows = layout.rows();
  const bool norm_before = weights_.config.norm_before;
  const std::string norm = weights_.attention_norm_name(index);
  if (!norm_before) norm_behind(work_.attention_sum, block.attention_norm, norm, rows, gradient, observer);
  backend.convert(gradient, rows, work_.of_output);
  tell(observer, Role::o, index, work_.attended, work_.of_output, rows);
  multiply(work_.of_output, rows, transposed(of_block_[3], block.o), false, work_.of_attended);

  const AttentionShape shape = pass_.attention_shape(index, layout);
  AttentionGradient of_attention{
      .q = work_.of_q, .k = work_.of_k, .v = work_.of_v, .q_norm = {}, .k_norm = {}};
  if (observer.norm && shape.q_norm != nullptr) {
    of_attention.q_norm.resize(static_cast<std::size_t>(shape.head_dim));
    of_attention.k_norm.resize(static_cast<std::size_t>(shape.head_dim));
  }
  backend.attend_backward(shape, work_.q, work_.k, work_.v, work_.of_attended, of_attention);
  if (!of_attention.q_norm.empty()) {
    observer.norm(weights_.q_norm_name(index), to_floats(of_attention.q_norm), {});
    observer.norm(weights_.k_norm_name(index), to_floats(of_attention.k_norm), {});
  }
  tell(observer, Role::q, index, work_.attention_input, work_.of_q, rows);
  tell(observer, Role::k, index, work_.attention_input, work_.of_k, rows);
  tell(observer, Role::v, index, work_.attention_input, work_.of_v, rows);
  Array& of_input = norm_before ? work_.of_input : gradient;
  multiply(work_.of_q, rows, transposed(of_block_[0], block.q), !norm_before, of_input);
  multiply(work_.of_k, rows, transposed(of_block_[1], block.k), true, of_input);
  multiply(work_.of_v, rows, transposed(of_block_[2], block.v), true, of_input);
  if (norm_before)
    norm_backward(before.state, block.attention_norm, norm, rows, work_.of_input, gradient, observer);
}

Array DecoderBackward::head(const Hidden& hidden, const LossTargets& targets, std::span<float> losses,
                            const GradientObserver& observer) {
  Backend& backend = *weights_.backend;
  const ModelConfig& config = weights_.config;
  const std::int64_t rows = hidden.tokens();
  if (std::ssize(losses) != rows) throw std::invalid_argument("head_backward: not a loss for each row");
  const Array input = pass_.head_input(hidden);  // also notices a head that is not loaded
  const Matrix& matrix = config.tied ? weights_.matrices.front() : weights_.matrices.back();
  const Weight& back = transposed(of_head_, weights_.head);
  Array of_input = backend.allocate(rows, input.cols(), Element::full);
  if (of_logits_.rows() < std::min(rows, kHeadRows))
    of_logits_ = backend.allocate(std::min(rows, kHeadRows), config.vocab, Element::working);
  for (std::int64_t first = 0; first < rows; first += kHeadRows) {
    check_cancelled();
    const std::int64_t count = std::min(kHeadRows, rows - first);
    const auto part = [&](auto values) {
      return values.empty()
                 ? values
                 : values.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
    };
    LossTargets some = targets;
    some.tokens = part(targets.tokens);
    some.draws = part(targets.draws);
    Array reference;
    if (targets.reference != nullptr) {
      reference = backend.view(*targets.reference, first, count);
      some.reference = &reference;
      if (some.reference_head == nullptr) some.reference_head = weights_.head.get();
    }
    const Array x = backend.view(input, first, count);
    backend.loss_gradient(x, *weights_.head, some, part(losses), of_logits_);
    if (observer.matrix) observer.matrix(matrix, x, of_logits_, first, count);
    Array of_x = backend.view(of_input, first, count);
    multiply(of_logits_, count, back, false, of_x);
  }
  if (const auto bad = first_not_finite(losses))
    throw NotFiniteError(weights_.where + ": the model computes no finite losses on this text");

  Array of_norm = of_input;
  if (weights_.project_out) {
    Array narrow = backend.allocate(rows, input.cols(), Element::working);
    backend.convert(of_input, rows, narrow);
    of_norm = backend.allocate(rows, config.hidden, Element::full);
    multiply(narrow, rows, *backend.transposed(*weights_.project_out), false, of_norm);
  }
  if (!config.final_norm) return of_norm;
  Array gradient = backend.allocate(rows, config.hidden, Element::full);
  norm_backward(hidden.state, weights_.final_norm, weights_.final_norm_name(), rows, of_norm, gradient,
                observer);
  return gradient;
}

void DecoderBackward::embed(const Array& gradient, std::int64_t rows, const GradientObserver& observer) {
  if (!observer.matrix) return;
  Backend& backend = *weights_.backend;
  Array rounded = backend.allocate(rows, gradient.cols(), Element::working);
  backend.convert(gradient, rows, rounded);
  if (weights_.project_in) {
    Array narrow = backend.allocate(rows, weights_.config.embedding, Element::working);
    multiply(rounded, rows, *backend.transposed(*weights_.project_in), false, narrow);
    rounded = narrow;
  }
  observer.matrix(weights_.matrices.front(), Array(), rounded, 0, rows);
}

Array Decoder::head_backward(const Hidden& hidden, const LossTargets& targets, std::span<float> losses,
                             const GradientObserver& observer) {
  return impl_->backward.head(hidden, targets, losses, observer);
}

void Decoder::block_backward(std::int64_t index, const Hidden& before, Array& gradient,
                             const GradientObserver& observer) {
  impl_->backward.block(index, before, gradient, observer);
}

void Decoder::embed_backward(const Array& gradient, std::int64_t rows, const GradientObserver& observer) {
  impl_->backward.embed(gradient, rows, observer);
}

double Decoder::backward(std::span<const std::int32_t> tokens, std::int64_t windows, std::int64_t length,
                         const LossTargets& targets, std::span<float> losses,
                         const GradientObserver& observer) {
  const std::int64_t layers = config().layers;
  std::vector<Hidden>& states = impl_->states;
  states.resize(static_cast<std::size_t>(layers) + 1);
  embed(tokens, windows, length, states.front());
  for (std::int64_t i = 0; i < layers; ++i) {
    check_cancelled();
    const Hidden& before = states[static_cast<std::size_t>(i)];
    Hidden& hidden = states[static_cast<std::size_t>(i) + 1];
    if (hidden.state.rows() != before.state.rows())
      hidden.state = backend().allocate(before.state.rows(), before.state.cols(), Element::full);
    backend().copy(before.state, before.tokens(), hidden.state);
    hidden.windows = windows;
    hidden.length = length;
    block(i, hidden);
  }
  const Hidden& hidden = states.back();
  Array gradient = head_backward(hidden, targets, losses, observer);
  for (std::int64_t i = layers - 1; i >= 0; --i) {
    check_cancelled();
    block_backward(i, states[static_cast<std::size_t>(i)], gradient, observer);
  }
  embed_backward(gradient, hidden.tokens(), observer);
  double sum = 0;
  for (const float loss : losses) sum += static_cast<double>(loss);
  return sum;
}

}  // namespace knapsaq
