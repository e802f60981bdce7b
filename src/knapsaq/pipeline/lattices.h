#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/export/engine.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/scheme.h"

// Matrices that were made of codes before they were published in 16 or 32 bits, see quant/lattice.h.

namespace knapsaq {

/// For each of `matrices` the scheme with the fewest bits, among those that `is_allowed`, on whose lattice
/// some rows of it lie: what the file says about all of them shows when it is quantized. Nothing for a matrix
/// that is quantized. Shapes must have been checked.
std::vector<std::optional<Scheme>> find_lattices(const Checkpoint& checkpoint,
                                                 std::span<const Matrix> matrices,
                                                 const std::function<bool(const Scheme&)>& is_allowed);

/// Adds to `menu` the schemes without which some of `matrices` would lose the lattice that they lie on: of
/// the engine's, or without one (null) of the kinds that the menu has already. Returns a line about it for
/// people, empty if nothing was added.
std::string add_lattices(const Checkpoint& checkpoint, std::span<const Matrix> matrices, const Engine* engine,
                         Menu& menu);

}  // namespace knapsaq
