#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "knapsaq/base/random.h"
#include "knapsaq/checkpoint/file_sizes.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/quant/scheme.h"
#include "knapsaq/quant/scheme_layout.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// AMQ's menu: one group size, 2 to 4 bits.
inline constexpr std::string_view kMadeMenu = "hqq:b2g128,hqq:b3g128,hqq:b4g128";

/// A search space without a model: `variables` linears, seven to a block as in Llama, each a variable of its
/// own with every scheme of `menu`. Shapes and local errors (which fall by about 4 for each bit) come from
/// `seed`. What is written is the linears.
inline SearchSpace made_space(std::size_t variables, std::string_view menu = kMadeMenu,
                              std::uint64_t seed = 1) {
  static constexpr std::string_view kModules[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                                  "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
                                                  "mlp.down_proj"};
  Random random(seed);
  SearchSpace space;
  space.menu = parse_menu(menu).schemes;
  std::vector<FilePart> parts;
  for (std::size_t v = 0; v < variables; ++v) {
    const auto out = static_cast<std::int64_t>(64 * (1 + random.below(4)));
    const auto in = static_cast<std::int64_t>(128 * (1 + random.below(3)));
    const std::size_t block = v / std::size(kModules);
    const std::string name =
        "model.layers." + std::to_string(block) + "." + std::string(kModules[v % std::size(kModules)]);
    space.linears.push_back(name);
    space.schemes.push_back(space.menu);
    space.parameters += out * in;

    FilePart& part = parts.emplace_back();
    part.module = v;
    for (const Scheme& scheme : space.menu)
      part.forms.push_back(tensors_of(name, stored_shape(scheme, out, in)));

    Variable variable;
    variable.name = name;
    variable.block = static_cast<std::int64_t>(block);
    variable.linears = {v};
    variable.parameters = out * in;
    const double size = std::exp(random.normal());
    for (std::size_t choice = 0; choice < space.menu.size(); ++choice) {
      const Scheme& scheme = space.menu[choice];
      const double spread = std::exp(0.1 * random.normal());
      variable.levels.push_back({choice, storage_bytes(scheme, out, in), static_cast<double>(scheme.bits),
                                 size * spread * std::pow(0.25, scheme.bits)});
    }
    std::stable_sort(variable.levels.begin(), variable.levels.end(),
                     [](const SpaceLevel& a, const SpaceLevel& b) { return a.bytes < b.bytes; });
    space.variables.push_back(std::move(variable));
  }
  space.files = std::make_shared<CheckpointSizes>(parts);
  return space;
}

/// A budget for the linears' tensors alone.
inline Budget of_linears(std::uint64_t bytes) { return {bytes, Budget::Of::linears}; }

/// Any point of the space, all equally likely.
inline Point random_point(const SearchSpace& space, Random& random) {
  Point point;
  for (const Variable& variable : space.variables)
    point.push_back(static_cast<std::uint8_t>(random.below(variable.levels.size())));
  return point;
}

}  // namespace knapsaq
