#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "knapsaq/pipeline/session.h"

namespace knapsaq {

struct ExportModelOptions {
  std::string format;       ///< "gguf", "mlx", "compressed-tensors", "gptq", "auto-round"
  std::string output;       ///< file or folder, as the format has it; empty: only a recipe
  std::string recipe;       ///< file for llama-quantize's --tensor-type-file; empty: none
  bool requantize = false;  ///< quantize matrices once more where the format cannot hold them exactly
  bool force = false;       ///< replace the output
};

struct ExportModelResult {
  std::filesystem::path path;
  std::string format;
  std::uint64_t bytes = 0;           ///< of the weight files
  std::vector<std::string> changes;  ///< a line for every matrix that was not carried exactly
  std::vector<std::string> notes;    ///< what the format's readers do otherwise
  /// What a recipe says.
  struct Recipe {
    std::filesystem::path path;
    std::size_t matrices = 0;    ///< one entry each
    std::string file_type;       ///< the last argument for llama-quantize
    bool needs_imatrix = false;  ///< llama-quantize makes these types with an importance matrix only
    std::string command;         ///< for a shell: llama-quantize .. F16.gguf OUT.gguf TYPE
  };
  std::optional<Recipe> recipe;
};

/// Writes a quantized model in a format that others load, a recipe of its types, or both. A recipe may be
/// made of a GGUF file, too; llama-quantize makes the same types by it from the full-precision model. Throws
/// UsageError, before anything is written, naming the first matrix that the format cannot carry, and for a
/// recipe with another format than GGUF.
ExportModelResult export_model(Session& session, const ExportModelOptions& options);

}  // namespace knapsaq
