// The MLP of a layer of experts.

#include <array>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "knapsaq/model/decoder_pass.h"
#include "knapsaq/model/mixture.h"

namespace knapsaq {

void DecoderPass::activate_mixture(std::int64_t index, const Array& x, std::int64_t rows, Mixture& mixture,
                                   Array& mlp, const InputObserver& observer) {
  Backend& backend = *weights_.backend;
  const BlockWeights& block = weights_.block(index);
  const LayerConfig layer = layer_config(weights_.config, index);
  Array logits = backend.allocate(rows, layer.experts.count, Element::full);
  add_product(x, rows, *block.router, false, logits);
  look(logits, rows, [&] { return fmt::format("{} in block {}", kRouterModule, index); });
  backend.route(logits, rows, router_rule(layer.experts), mixture.rows);

  const std::int64_t total = mixture.rows.size();
  provide(work_.gathered, total, weights_.config.hidden);
  provide(mixture.activated, total, layer.experts.ffn);
  backend.gather(x, mixture.rows.rows, work_.gathered);
  const MixtureWeights weights = mixture_weights(block, layer.experts);
  if (observer)
    for_experts(mixture.rows, [&](std::int64_t expert, std::int64_t first, std::int64_t count) {
      observer(weights_.matrix_of(Role::expert_gate, index, expert),
               backend.view(work_.gathered, first, count), count);
    });
  backend.activate_experts(work_.gathered, mixture.rows, weights.first, layer.activation, mixture.activated);
  if (looking)
    for_experts(mixture.rows, [&](std::int64_t expert, std::int64_t first, std::int64_t count) {
      Array before = backend.allocate(count, layer.experts.ffn, Element::working);
      for (const Role role : {Role::expert_gate, Role::expert_up}) {
        add_product(backend.view(work_.gathered, first, count), count, *block.of(role, expert), false,
                    before);
        look(before, count, [&] { return weights_.name_of(role, index, expert); });
      }
      look(backend.view(mixture.activated, first, count), count,
           [&] { return fmt::format("the activation of expert {} in block {}", expert, index); });
    });

  mixture.shared = {};
  if (layer.experts.shared_ffn == 0) return;
  activate(index, x, rows, mlp, observer);
  if (!layer.experts.shared_gate) return;
  Array of_gate = backend.allocate(rows, 1, Element::full);
  add_product(x, rows, *block.shared_gate, false, of_gate);
  look(of_gate, rows, [&] { return fmt::format("{} in block {}", kSharedGateModule, index); });
  backend.route(of_gate, rows, kSharedGateRule, mixture.shared);
}

void DecoderPass::add_mixture(std::int64_t index, std::int64_t rows, const Mixture& mixture, const Array& mlp,
                              Array& sum, const InputObserver& observer) {
  Backend& backend = *weights_.backend;
  const BlockWeights& block = weights_.block(index);
  const LayerConfig layer = layer_config(weights_.config, index);
  if (observer)
    for_experts(mixture.rows, [&](std::int64_t expert, std::int64_t first, std::int64_t count) {
      observer(weights_.matrix_of(Role::expert_down, index, expert),
               backend.view(mixture.activated, first, count), count);
    });
  provide(work_.expert_results, mixture.rows.size(), weights_.config.hidden, Element::full);
  backend.multiply_experts(mixture.activated, mixture.rows, mixture_weights(block, layer.experts).second,
                           work_.expert_results);
  if (looking)
    for_experts(mixture.rows, [&](std::int64_t expert, std::int64_t first, std::int64_t count) {
      look(backend.view(work_.expert_results, first, count), count,
           [&] { return weights_.name_of(Role::expert_down, index, expert); });
    });
  backend.add_experts(work_.expert_results, mixture.rows, sum);

  if (layer.experts.shared_ffn == 0) return;
  const Weight& down = *block.of(Role::down);
  if (observer) observer(weights_.matrix_of(Role::down, index), mlp, rows);
  look_at_product(mlp, rows, down, Role::down, index);
  if (!layer.experts.shared_gate) return add_product(mlp, rows, down, true, sum);
  provide(work_.expert_results, rows, weights_.config.hidden, Element::full);
  add_product(mlp, rows, down, false, work_.expert_results);
  backend.add_experts(work_.expert_results, mixture.shared, sum);
}

}  // namespace knapsaq
