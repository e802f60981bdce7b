#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "knapsaq/pipeline/session.h"

namespace knapsaq {

struct ExportModelOptions {
  std::string format;       ///< "gguf", "mlx", "compressed-tensors", "gptq", "auto-round"
  std::string output;       ///< file or folder, as the format has it
  bool requantize = false;  ///< quantize matrices once more where the format cannot hold them exactly
  bool force = false;       ///< replace the output
};

struct ExportModelResult {
  std::filesystem::path path;
  std::string format;
  std::uint64_t bytes = 0;           ///< of the weight files
  std::vector<std::string> changes;  ///< a line for every matrix that was not carried exactly
  std::vector<std::string> notes;    ///< what the format's readers do otherwise
};

/// Writes a quantized model in a format that others load. Throws UsageError, before anything is written,
/// naming the first matrix that the format cannot carry.
ExportModelResult export_model(Session& session, const ExportModelOptions& options);

}  // namespace knapsaq
