#pragma once

#include <cstdint>
#include <vector>

#include "knapsaq/compute/backend.h"
#include "knapsaq/family/config.h"
#include "knapsaq/model/decoder_weights.h"

namespace knapsaq {

/// How the backend is to choose the experts of a layer.
inline RouterRule router_rule(const Experts& experts) {
  return {.chosen = experts.chosen, .renormalise = experts.renormalise};
}

/// The weight of the expert that all tokens meet: the sigmoid of its gate's product.
inline constexpr RouterRule kSharedGateRule{.chosen = 1, .score = RouterRule::Score::sigmoid};

/// The experts' matrices of a layer, as the backend takes them.
struct MixtureWeights {
  std::vector<ExpertWeights> first;
  std::vector<const Weight*> second;
};
inline MixtureWeights mixture_weights(const BlockWeights& block, const Experts& experts) {
  MixtureWeights weights;
  for (std::int64_t expert = 0; expert < experts.count; ++expert) {
    weights.first.push_back(
        {block.of(Role::expert_gate, expert).get(), block.of(Role::expert_up, expert).get()});
    weights.second.push_back(block.of(Role::expert_down, expert).get());
  }
  return weights;
}

/// Calls function(expert, first, count) for all experts, also those without rows: those of the expert are
/// [first, first + count) of experts' rows.
template <class Function>
void for_experts(const ExpertRows& rows, Function&& function) {
  for (std::int64_t expert = 0; expert < rows.experts(); ++expert)
    function(expert, rows.begin[static_cast<std::size_t>(expert)], rows.rows_of(expert));
}

}  // namespace knapsaq
