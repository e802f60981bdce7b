#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/export/engine_memory.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// A program that loads quantized models, and what it loads. A search for it is restricted to this, so that
/// every point can be written. docs/exports.md says for each of these facts how it was checked.
struct Engine {
  std::string_view name = {};        ///< "llama.cpp"
  std::string_view format = {};      ///< the name of its writer()
  std::string_view menu = {};        ///< the schemes to choose from by default
  std::string_view method = {};      ///< for the menu's affine schemes; empty if it has none
  std::string_view ties = {};        ///< matrices that need the same scheme, in tie_groups()'s notation
  bool ends = false;                 ///< loads quantized embeddings and heads
  bool rows_of_groups = false;       ///< every group must be whole
  std::int64_t rows_multiple = 1;    ///< W's `out` must be a multiple of it, else W is dense
  std::int64_t inputs_multiple = 1;  ///< the same for W's `in`
  /// The reason why the engine does not load matrices in a scheme: a clause. Empty if it does.
  std::string (*obstacle)(const Scheme& scheme) = nullptr;
  EngineMemory memory = {};  ///< what it needs beside the weights
};

/// Throws UsageError listing the known engines.
const Engine& find_engine(std::string_view name);
/// The names that find_engine() knows, for help texts.
std::vector<std::string> engine_names();

/// `menu` in the engine's form. Throws UsageError, naming it, for a scheme that the engine does not load.
Menu menu_for(const Engine& engine, Menu menu);

/// The ties of a search, in tie_groups()'s notation: `asked` (empty: the engine's own, or that the experts of
/// a layer share a scheme), and what the files have in one tensor anyhow. `engine`: null for Knapsaq's own
/// format.
std::string ties_for(const Engine* engine, std::string_view asked, const ModelConfig& config);

/// `selection` without the matrices that the engine needs dense. Throws UsageError if nothing is left.
MatrixSelection selection_for(const Engine& engine, MatrixSelection selection);

}  // namespace knapsaq
