// The backward pass of a layer of experts.

#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "knapsaq/model/decoder_backward.h"
#include "knapsaq/model/mixture.h"

namespace knapsaq {

std::vector<const Weight*> DecoderBackward::transposed_experts(std::int64_t index, Role role,
                                                               const ExpertRows& rows) {
  std::vector<const Weight*> weights;
  for_experts(rows, [&](std::int64_t expert, std::int64_t, std::int64_t count) {
    weights.push_back(count == 0 ? nullptr : &transposed(index, role, expert));
  });
  return weights;
}

void DecoderBackward::mixture_forward(std::int64_t index, std::int64_t rows) {
  Backend& backend = *weights_.backend;
  const BlockWeights& block = weights_.block(index);
  const LayerConfig layer = layer_config(weights_.config, index);
  const Experts& experts = layer.experts;
  const std::int64_t hidden = weights_.config.hidden;
  MixtureWork& work = mixture_;

  const auto provide = [&](Array& array, std::int64_t count, std::int64_t cols, Element element) {
    if (array.rows() < count || array.cols() != cols) array = backend.allocate(count, cols, element);
  };
  provide(work.logits, rows, experts.count, Element::full);
  multiply(work_.mlp_input, rows, *block.router, false, work.logits);
  backend.route(work.logits, rows, router_rule(experts), work.rows);
  const std::int64_t total = work.rows.size();
  for (Array* array : {&work.gathered, &work.of_result}) provide(*array, total, hidden, Element::working);
  for (Array* array : {&work.gate, &work.up, &work.activated, &work.of_gate, &work.of_activated})
    provide(*array, total, experts.ffn, Element::working);
  for (Array* array : {&work.results, &work.of_gathered}) provide(*array, total, hidden, Element::full);

  backend.gather(work_.mlp_input, work.rows.rows, work.gathered);
  const MixtureWeights weights = mixture_weights(block, experts);
  std::vector<const Weight*> gates, ups;
  for (const ExpertWeights& one : weights.first) {
    gates.push_back(one.gate);
    ups.push_back(one.up);
  }
  backend.multiply_experts(work.gathered, work.rows, gates, work.gate);
  backend.multiply_experts(work.gathered, work.rows, ups, work.up);
  backend.activate_experts(work.gathered, work.rows, weights.first, layer.activation, work.activated);
  backend.multiply_experts(work.activated, work.rows, weights.second, work.results);
  if (experts.shared_ffn == 0) return;

  multiply(work_.mlp_input, rows, *block.of(Role::up), false, work_.up);
  multiply(work_.mlp_input, rows, *block.of(Role::gate), false, work_.gate);
  if (!experts.shared_gate) return;
  backend.activate(work_.mlp_input, rows, block.of(Role::gate).get(), *block.of(Role::up), layer.activation,
                   work_.mlp);
  provide(work.shared_logits, rows, 1, Element::full);
  provide(work.shared_result, rows, hidden, Element::full);
  multiply(work_.mlp_input, rows, *block.shared_gate, false, work.shared_logits);
  backend.route(work.shared_logits, rows, kSharedGateRule, work.shared);
  multiply(work_.mlp, rows, *block.of(Role::down), false, work.shared_result);
}

void DecoderBackward::add_mixture(std::int64_t index, std::int64_t rows, Array& sum) const {
  Backend& backend = *weights_.backend;
  const BlockWeights& block = weights_.block(index);
  const LayerConfig layer = layer_config(weights_.config, index);
  backend.add_experts(mixture_.results, mixture_.rows, sum);
  if (layer.experts.shared_ffn == 0) return;
  if (layer.experts.shared_gate) return backend.add_experts(mixture_.shared_result, mixture_.shared, sum);
  Array mlp = work_.mlp;
  backend.activate(work_.mlp_input, rows, block.of(Role::gate).get(), *block.of(Role::up), layer.activation,
                   mlp);
  multiply(mlp, rows, *block.of(Role::down), true, sum);
}

void DecoderBackward::router_backward(std::int64_t rows, const Array& logits, const RouterRule& rule,
                                      const ExpertRows& routed, std::span<const float> of_weights,
                                      const Weight& back, bool accumulate, Array& of_input) const {
  Backend& backend = *weights_.backend;
  Array of_logits = backend.allocate(rows, logits.cols(), Element::full);
  backend.route_backward(logits, rows, rule, routed, of_weights, of_logits);
  Array rounded = backend.allocate(rows, logits.cols(), Element::working);
  backend.convert(of_logits, rows, rounded);
  multiply(rounded, rows, back, accumulate, of_input);
}

void DecoderBackward::mixture_backward(std::int64_t index, std::int64_t rows, const Array& of_sum,
                                       bool accumulate, Array& of_input, const GradientObserver& observer) {
  Backend& backend = *weights_.backend;
  const BlockWeights& block = weights_.block(index);
  const LayerConfig layer = layer_config(weights_.config, index);
  const Experts& experts = layer.experts;
  MixtureWork& work = mixture_;
  const std::int64_t total = work.rows.size();

  std::vector<float> of_weights(static_cast<std::size_t>(total));
  backend.add_experts_backward(of_sum, work.results, work.rows, work.of_result, of_weights);
  router_backward(rows, work.logits, router_rule(experts), work.rows, of_weights,
                  transposed(of_router_, block.router), accumulate, of_input);
  backend.multiply_experts(work.of_result, work.rows, transposed_experts(index, Role::expert_down, work.rows),
                           work.of_activated);
  Array& of_up = work.of_activated;
  backend.activate_backward(&work.gate, work.up, total, layer.activation, work.of_activated, work.activated,
                            &work.of_gate, of_up);
  if (observer.matrix)
    for_experts(work.rows, [&](std::int64_t expert, std::int64_t first, std::int64_t count) {
      const auto tell_of = [&](Role role, const Array& x, const Array& gradient) {
        observer.matrix(weights_.matrix_of(role, index, expert), backend.view(x, first, count),
                        backend.view(gradient, first, count), 0, count);
      };
      tell_of(Role::expert_down, work.activated, work.of_result);
      tell_of(Role::expert_up, work.gathered, of_up);
      tell_of(Role::expert_gate, work.gathered, work.of_gate);
    });
  for (const auto& [role, gradient] :
       {std::pair{Role::expert_up, &of_up}, {Role::expert_gate, &work.of_gate}}) {
    backend.multiply_experts(*gradient, work.rows, transposed_experts(index, role, work.rows),
                             work.of_gathered);
    backend.gather_backward(work.of_gathered, work.rows.rows, of_input);
  }
  if (experts.shared_ffn == 0) return;

  if (experts.shared_gate) {
    std::vector<float> of_gates(static_cast<std::size_t>(rows));
    backend.add_experts_backward(of_sum, work.shared_result, work.shared, work_.of_output, of_gates);
    router_backward(rows, work.shared_logits, kSharedGateRule, work.shared, of_gates,
                    transposed(of_shared_gate_, block.shared_gate), true, of_input);
  } else {
    backend.convert(of_sum, rows, work_.of_output);
  }
  linears_backward(index, rows, true, of_input, observer);
}

}  // namespace knapsaq
