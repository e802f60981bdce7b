#include "knapsaq/model/decoder_backward.h"

#include <algorithm>
#include <array>
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
  const Widths widest = widths(config);
  const auto make = [&](std::int64_t cols, Element element = Element::working) {
    return weights_.backend->allocate(rows, cols, element);
  };
  work_ = {};  // not the old and the new one at once
  work_.rows = rows;
  for (Array* array : {&work_.middle, &work_.of_input}) *array = make(config.hidden, Element::full);
  if (config.norms != NormPlacement::before || config.residual_scale != 1)
    for (Array* array :
         {&work_.attention_branch, &work_.mlp_branch, &work_.of_attention_branch, &work_.of_mlp_branch})
      *array = make(config.hidden, Element::full);
  if (config.parallel) work_.of_attention_branch = make(config.hidden, Element::full);
  for (Array* array : {&work_.attention_input, &work_.mlp_input, &work_.of_output})
    *array = make(config.hidden);
  for (Array* array : {&work_.q, &work_.of_q}) *array = make(widest.q);
  for (Array* array : {&work_.attended, &work_.of_attended}) *array = make(widest.mixed);
  if (config.attention_gate) work_.attention_gate = make(widest.q);
  if (config.attention_gate || widest.values > 0) work_.gated = make(widest.mixed);
  for (Array* array : {&work_.mixer_in, &work_.of_mixer_in}) *array = make(widest.mixer);
  for (Array* array : {&work_.convolved, &work_.of_convolved}) *array = make(widest.channels);
  for (Array* array : {&work_.z, &work_.of_z, &work_.ruled, &work_.of_a, &work_.of_b})
    *array = make(widest.values);
  for (Array* array : {&work_.a, &work_.b}) *array = make(widest.values, Element::full);
  for (Array* array : {&work_.k, &work_.v, &work_.of_k, &work_.of_v}) *array = make(widest.kv);
  for (Array* array : {&work_.up, &work_.mlp, &work_.of_mlp}) *array = make(widest.ffn);
  if (config.gated_mlp)
    for (Array* array : {&work_.gate, &work_.of_gate}) *array = make(widest.ffn);
}

const Weight& DecoderBackward::transposed(std::int64_t index, Role role, std::int64_t expert) {
  const BlockWeights& block = weights_.block(index);
  const auto at = static_cast<std::size_t>(block.index_of(role, expert));
  if (of_block_.size() < block.matrices.size()) of_block_.resize(block.matrices.size());
  return transposed(of_block_.at(at), block.matrices[at]);
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
  observer.matrix(weights_.matrix_of(role, index), x, gradient, 0, rows);
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

void DecoderBackward::add_branch(const Array& branch, const NormWeights& behind, std::int64_t rows,
                                 Array& sum) {
  Backend& backend = *weights_.backend;
  const float scale = weights_.config.residual_scale;
  if (!has_norms_behind(weights_.config)) return backend.add(branch, rows, scale, sum);
  Array normed = backend.allocate(rows, branch.cols(), Element::full);
  backend.norm(branch, behind, rows, normed);
  backend.add(normed, rows, scale, sum);
}

const Array& DecoderBackward::mix(std::int64_t index, const RowLayout& layout) {
  Backend& backend = *weights_.backend;
  const BlockWeights& block = weights_.block(index);
  const LayerConfig layer = layer_config(weights_.config, index);
  const std::int64_t rows = layout.rows();
  const RowSequences sequences{.windows = layout.windows, .length = layout.length};
  switch (layer.mixer) {
    case Mixer::attention: {
      const std::array<Product, 4> projections = {
          {{block.of(Role::q).get(), &work_.q, false},
           {block.of(Role::k).get(), &work_.k, false},
           {block.of(Role::v).get(), &work_.v, false},
           {block.of(Role::attention_gate).get(), &work_.attention_gate, false}}};
      const bool gated = block.of(Role::attention_gate) != nullptr;
      backend.multiply(work_.attention_input, rows, std::span(projections).first(gated ? 4 : 3));
      backend.attend(pass_.attention_shape(index, layout), work_.q, work_.k, work_.v, work_.attended);
      if (!gated) return work_.attended;
      backend.copy(work_.attended, rows, work_.gated);
      backend.gate(work_.attention_gate, rows, work_.gated);
      return work_.gated;
    }
    case Mixer::delta: {
      const std::array products = {Product{block.of(Role::mixer_in).get(), &work_.mixer_in, false},
                                   Product{block.of(Role::mixer_gate).get(), &work_.z, false},
                                   Product{block.a.get(), &work_.a, false},
                                   Product{block.b.get(), &work_.b, false}};
      backend.multiply(work_.attention_input, rows, products);
      backend.short_convolution(sequences, pass_.convolution(index), work_.mixer_in, work_.convolved);
      backend.gated_delta_rule(sequences, pass_.delta_shape(index), work_.convolved, work_.a, work_.b,
                               work_.ruled);
      backend.gated_norm(work_.ruled, work_.z, block.mixer_norm, rows, work_.gated);
      return work_.gated;
    }
    case Mixer::convolution:
      break;
  }
  multiply(work_.attention_input, rows, *block.of(Role::mixer_in), false, work_.mixer_in);
  backend.short_convolution(sequences, pass_.convolution(index), work_.mixer_in, work_.attended);
  return work_.attended;
}

void DecoderBackward::attend_backward(std::int64_t index, const RowLayout& layout,
                                      const GradientObserver& observer) {
  Backend& backend = *weights_.backend;
  const std::int64_t rows = layout.rows();
  if (weights_.block(index).of(Role::attention_gate) != nullptr)
    backend.gate_backward(work_.attention_gate, work_.attended, rows, work_.of_attended,
                          work_.attention_gate);
  const AttentionShape shape = pass_.attention_shape(index, layout);
  AttentionGradient of_attention{
      .q = work_.of_q, .k = work_.of_k, .v = work_.of_v, .q_norm = {}, .k_norm = {}, .sinks = {}};
  if (observer.norm && shape.q_norm != nullptr) {
    of_attention.q_norm.resize(static_cast<std::size_t>(shape.q_norm->cols()));
    of_attention.k_norm.resize(static_cast<std::size_t>(shape.k_norm->cols()));
  }
  backend.attend_backward(shape, work_.q, work_.k, work_.v, work_.of_attended, of_attention);
  if (!of_attention.q_norm.empty()) {
    observer.norm(weights_.q_norm_name(index), to_floats(of_attention.q_norm), {});
    observer.norm(weights_.k_norm_name(index), to_floats(of_attention.k_norm), {});
  }
}

void DecoderBackward::recur_backward(std::int64_t index, const RowLayout& layout,
                                     const GradientObserver& observer) {
  Backend& backend = *weights_.backend;
  const BlockWeights& block = weights_.block(index);
  const std::int64_t rows = layout.rows();
  const RowSequences sequences{.windows = layout.windows, .length = layout.length};
  if (layer_config(weights_.config, index).mixer == Mixer::convolution)
    return backend.short_convolution_backward(sequences, pass_.convolution(index), work_.mixer_in,
                                              work_.of_attended, work_.of_mixer_in);
  NormGradient of_norm;
  of_norm.scale.resize(static_cast<std::size_t>(block.mixer_norm.scale.cols()));
  // The rule's result is not needed any more.
  backend.gated_norm_backward(work_.ruled, work_.z, block.mixer_norm, rows, work_.of_attended, work_.ruled,
                              work_.of_z, observer.norm ? &of_norm : nullptr);
  if (observer.norm) observer.norm(weights_.mixer_norm_name(index), to_floats(of_norm.scale), {});
  DeltaGradient of_rule{.qkv = work_.of_convolved, .a = work_.of_a, .b = work_.of_b};
  backend.gated_delta_rule_backward(sequences, pass_.delta_shape(index), work_.convolved, work_.a, work_.b,
                                    work_.ruled, of_rule);
  backend.short_convolution_backward(sequences, pass_.convolution(index), work_.mixer_in, work_.of_convolved,
                                     work_.of_mixer_in);
}

void DecoderBackward::forward(std::int64_t index, const Hidden& before, const RowLayout& layout) {
  Backend& backend = *weights_.backend;
  const ModelConfig& config = weights_.config;
  const BlockWeights& block = weights_.block(index);
  const std::int64_t rows = layout.rows();
  const auto input = [&](const Array& stream, const NormWeights& norm, Array& out) {
    if (has_norms_before(config)) {
      backend.norm(stream, norm, rows, out);
    } else {
      backend.convert(stream, rows, out);
    }
  };
  const bool added_alone = config.norms == NormPlacement::before && config.residual_scale == 1;
  // What the end of a branch makes of the residual stream in `stream`, which becomes `sum`.
  const auto add = [&](const Array& in, const Weight& weight, const NormWeights& norm,
                       const NormWeights& behind, Array& branch, Array& sum) {
    if (added_alone) return multiply(in, rows, weight, true, sum);
    if (config.norms == NormPlacement::after_sum) {
      backend.copy(sum, rows, branch);
      multiply(in, rows, weight, true, branch);
      return backend.norm(branch, norm, rows, sum);
    }
    multiply(in, rows, weight, false, branch);
    add_branch(branch, behind, rows, sum);
  };

  input(before.state, block.attention_norm, work_.attention_input);
  const Array& mixed = mix(index, layout);
  backend.copy(before.state, rows, work_.middle);
  add(mixed, *block.of(Role::o), block.attention_norm, block.attention_norm_behind, work_.attention_branch,
      work_.middle);
  input(config.parallel ? before.state : work_.middle, block.mlp_norm, work_.mlp_input);
  if (layer_config(config, index).is_mixture()) {
    mixture_forward(index, rows);
    if (config.norms == NormPlacement::before) return;
    // The input of the norm behind the MLP.
    work_.mlp_branch = backend.allocate(rows, config.hidden, Element::full);
    if (config.norms == NormPlacement::after_sum) backend.copy(work_.middle, rows, work_.mlp_branch);
    return add_mixture(index, rows, work_.mlp_branch);
  }
  multiply(work_.mlp_input, rows, *block.of(Role::up), false, work_.up);
  const Weight* const gate = block.of(Role::gate).get();
  if (gate != nullptr) multiply(work_.mlp_input, rows, *gate, false, work_.gate);
  if (config.norms == NormPlacement::before) return;
  // The input of the norm behind the MLP.
  const Activation activation = layer_config(config, index).activation;
  backend.activate(work_.mlp_input, rows, gate, *block.of(Role::up), activation, work_.mlp);
  if (config.norms == NormPlacement::after_sum) backend.copy(work_.middle, rows, work_.mlp_branch);
  multiply(work_.mlp, rows, *block.of(Role::down), config.norms == NormPlacement::after_sum,
           work_.mlp_branch);
}

void DecoderBackward::block(std::int64_t index, const Hidden& before, Array& gradient,
                            const GradientObserver& observer) {
  const std::int64_t rows = before.tokens();
  const RowLayout layout{.windows = before.windows, .length = before.length};
  if (gradient.element() != Element::full || gradient.cols() != weights_.config.hidden ||
      gradient.rows() < rows)
    throw std::invalid_argument("block_backward: gradient of another shape");
  prepare_work(rows);
  const LayerConfig layer = layer_config(weights_.config, index);
  for (Array* array : {&work_.q, &work_.of_q, &work_.attention_gate})
    *array = array->narrowed(layer.q_width());
  for (Array* array : {&work_.attended, &work_.of_attended, &work_.gated})
    *array = array->narrowed(layer.mixed_width());
  for (Array* array : {&work_.mixer_in, &work_.of_mixer_in}) *array = array->narrowed(layer.mixer_width());
  for (Array* array : {&work_.convolved, &work_.of_convolved})
    *array = array->narrowed(layer.recurrence.channels);
  for (Array* array : {&work_.z, &work_.of_z, &work_.ruled})
    *array = array->narrowed(layer.recurrence.value_width());
  for (Array* array : {&work_.a, &work_.b, &work_.of_a, &work_.of_b})
    *array = array->narrowed(layer.recurrence.value_heads);
  for (Array* array : {&work_.k, &work_.v, &work_.of_k, &work_.of_v})
    *array = array->narrowed(layer.kv_width());
  for (Array* array : {&work_.up, &work_.mlp, &work_.of_mlp, &work_.gate, &work_.of_gate})
    *array = array->narrowed(layer.ffn);
  pass_.prepare_rotation(before.length, before.length);
  forward(index, before, layout);
  if (!weights_.config.parallel) {
    mlp_backward(index, work_.middle, rows, gradient, gradient, observer);
    return attention_backward(index, before, layout, gradient, gradient, observer);
  }
  // Both branches end in the same sum.
  weights_.backend->copy(gradient, rows, work_.of_attention_branch);
  mlp_backward(index, before.state, rows, gradient, gradient, observer);
  attention_backward(index, before, layout, work_.of_attention_branch, gradient, observer);
}

void DecoderBackward::branch_backward(const Array& branch, const NormWeights& behind, const std::string& name,
                                      std::int64_t rows, Array& from, const GradientObserver& observer) {
  Backend& backend = *weights_.backend;
  const ModelConfig& config = weights_.config;
  if (has_norms_behind(config)) {
    Array of_branch = backend.allocate(rows, from.cols(), Element::full);
    norm_backward(branch, behind, name, rows, from, of_branch, observer);
    backend.convert(of_branch, rows, work_.of_output);
  } else {
    backend.convert(from, rows, work_.of_output);
  }
  if (config.residual_scale != 1) backend.scale(work_.of_output, rows, config.residual_scale);
}

Array DecoderBackward::result_backward(const Array& branch, const NormWeights& behind,
                                       const std::string& name, std::int64_t rows, const Array& from,
                                       const GradientObserver& observer) const {
  Backend& backend = *weights_.backend;
  const float scale = weights_.config.residual_scale;
  if (!has_norms_behind(weights_.config) && scale == 1) return from;
  Array of_branch = backend.allocate(rows, from.cols(), Element::full);
  if (has_norms_behind(weights_.config)) {
    norm_backward(branch, behind, name, rows, from, of_branch, observer);
  } else {
    backend.copy(from, rows, of_branch);
  }
  if (scale != 1) backend.scale(of_branch, rows, scale);
  return of_branch;
}

void DecoderBackward::mlp_backward(std::int64_t index, const Array& input, std::int64_t rows, Array& from,
                                   Array& gradient, const GradientObserver& observer) {
  const ModelConfig& config = weights_.config;
  const BlockWeights& block = weights_.block(index);
  const bool norm_before = has_norms_before(config);
  const std::string norm = weights_.mlp_norm_name(index);
  if (config.norms == NormPlacement::after_sum)
    norm_behind(work_.mlp_branch, block.mlp_norm, norm, rows, gradient, observer);
  Array& of_input = norm_before ? work_.of_input : gradient;
  if (layer_config(config, index).is_mixture()) {
    const Array of_sum = result_backward(work_.mlp_branch, block.mlp_norm_behind,
                                         weights_.mlp_norm_behind_name(index), rows, from, observer);
    mixture_backward(index, rows, of_sum, !norm_before, of_input, observer);
  } else {
    branch_backward(work_.mlp_branch, block.mlp_norm_behind, weights_.mlp_norm_behind_name(index), rows, from,
                    observer);
    linears_backward(index, rows, !norm_before, of_input, observer);
  }
  if (norm_before) norm_backward(input, block.mlp_norm, norm, rows, work_.of_input, gradient, observer);
}

void DecoderBackward::linears_backward(std::int64_t index, std::int64_t rows, bool accumulate,
                                       Array& of_input, const GradientObserver& observer) {
  Backend& backend = *weights_.backend;
  const ModelConfig& config = weights_.config;
  const bool gated = weights_.block(index).of(Role::gate) != nullptr;
  multiply(work_.of_output, rows, transposed(index, Role::down), false, work_.of_mlp);
  backend.activate_backward(gated ? &work_.gate : nullptr, work_.up, rows,
                            layer_config(config, index).activation, work_.of_mlp, work_.mlp,
                            gated ? &work_.of_gate : nullptr, work_.of_mlp);
  tell(observer, Role::down, index, work_.mlp, work_.of_output, rows);
  tell(observer, Role::up, index, work_.mlp_input, work_.of_mlp, rows);
  multiply(work_.of_mlp, rows, transposed(index, Role::up), accumulate, of_input);
  if (!gated) return;
  tell(observer, Role::gate, index, work_.mlp_input, work_.of_gate, rows);
  multiply(work_.of_gate, rows, transposed(index, Role::gate), true, of_input);
}

void DecoderBackward::attention_backward(std::int64_t index, const Hidden& before, const RowLayout& layout,
                                         Array& from, Array& gradient, const GradientObserver& observer) {
  const ModelConfig& config = weights_.config;
  const BlockWeights& block = weights_.block(index);
  const std::int64_t rows = layout.rows();
  const bool norm_before = has_norms_before(config);
  const std::string norm = weights_.attention_norm_name(index);
  if (config.norms == NormPlacement::after_sum)
    norm_behind(work_.attention_branch, block.attention_norm, norm, rows, gradient, observer);
  branch_backward(work_.attention_branch, block.attention_norm_behind,
                  weights_.attention_norm_behind_name(index), rows, from, observer);
  const Mixer mixer = layer_config(config, index).mixer;
  const bool gated = mixer == Mixer::delta || block.of(Role::attention_gate) != nullptr;
  tell(observer, Role::o, index, gated ? work_.gated : work_.attended, work_.of_output, rows);
  multiply(work_.of_output, rows, transposed(index, Role::o), false, work_.of_attended);
  if (mixer == Mixer::attention) {
    attend_backward(index, layout, observer);
  } else {
    recur_backward(index, layout, observer);
  }

  Array& of_input = norm_before ? work_.of_input : gradient;
  bool accumulate = !norm_before;
  const auto through = [&](const Weight& back, const Array& of_product) {
    multiply(of_product, rows, back, accumulate, of_input);
    accumulate = true;
  };
  for (const auto& [role, of_product] : {std::pair{Role::q, &work_.of_q},
                                         {Role::k, &work_.of_k},
                                         {Role::v, &work_.of_v},
                                         {Role::attention_gate, &work_.attention_gate},
                                         {Role::mixer_in, &work_.of_mixer_in},
                                         {Role::mixer_gate, &work_.of_z}}) {
    if (block.of(role) == nullptr) continue;
    tell(observer, role, index, work_.attention_input, *of_product, rows);
    through(transposed(index, role), *of_product);
  }
  if (mixer == Mixer::delta) {
    through(transposed(of_a_, block.a), work_.of_a);
    through(transposed(of_b_, block.b), work_.of_b);
  }
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
    backend.loss_gradient(x, {weights_.head.get(), config.logit_softcap}, some, part(losses), of_logits_);
    if (observer.matrix) observer.matrix(matrix, x, of_logits_, first, count);
    Array of_x = backend.view(of_input, first, count);
    multiply(of_logits_, count, back, false, of_x);
  }
  if (const auto bad = first_not_finite(losses))
    throw NotFiniteError(weights_.where + ": the model computes no finite losses on this text");

  if (config.logit_scale != 1) backend.scale(of_input, rows, config.logit_scale);
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
  if (weights_.config.embedding_scale != 1) backend.scale(rounded, rows, weights_.config.embedding_scale);
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
