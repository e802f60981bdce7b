#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace knapsaq {

/// A matrix of a model and how it is stored.
struct NamedScheme {
  std::string matrix;  ///< module path, "model.layers.0.self_attn.q_proj"
  std::string scheme;  ///< "gptq:b3g64"
};
/// How many matrices have a choice of the menu.
struct SchemeCount {
  std::string scheme;
  std::size_t matrices = 0;
};

}  // namespace knapsaq
