#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// What loads a quantized model, and what it loads: the search is kept to that, so that whatever is found can
/// be written. docs/exports.md says for each of these facts how it was checked.
struct Engine {
  std::string_view name = {};        ///< "llama.cpp"
  std::string_view format = {};      ///< of writer()
  std::string_view menu = {};        ///< the schemes to choose from unless others are asked for
  std::string_view method = {};      ///< for the menu's affine schemes; empty where it has none
  std::string_view ties = {};        ///< matrices that it wants in one scheme, as tie_groups() reads it
  bool ends = false;                 ///< loads quantized embeddings and heads
  bool rows_of_groups = false;       ///< every group is whole
  std::int64_t rows_multiple = 1;    ///< W's `out` is a multiple of it, or W is dense
  std::int64_t inputs_multiple = 1;  ///< W's `in` likewise
  /// Why it does not load matrices in a scheme: a clause. Empty if it does.
  std::string (*obstacle)(const Scheme& scheme) = nullptr;
};

/// Throws UsageError listing the known engines.
const Engine& find_engine(std::string_view name);
/// The names that find_engine() knows, for help texts.
std::vector<std::string> engine_names();

/// `menu` as the engine takes it. Throws UsageError, naming it, for a scheme that the engine does not load.
Menu menu_for(const Engine& engine, Menu menu);

/// `selection` without the matrices that the engine wants dense. Throws UsageError if nothing is left.
MatrixSelection selection_for(const Engine& engine, MatrixSelection selection);

}  // namespace knapsaq
