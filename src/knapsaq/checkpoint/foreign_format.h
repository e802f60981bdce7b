#pragma once

#include <filesystem>
#include <span>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace knapsaq {

/// By what a folder's model is quantized that Knapsaq does not read, for people: "GPTQ (tensor 'a.qweight')",
/// "compressed-tensors (compression_config in config.json)". Empty if nothing shows that it is. `names` are
/// its tensors. Besides today's quantization_config with its quant_method, which says it itself, this knows
/// what older versions of the tools wrote, and the tensors themselves.
std::string foreign_quantization(const nlohmann::json& config, std::span<const std::string> names);

/// Why a folder without weight files that are read has none, as far as its other files tell: a clause with
/// what to do, "holds shards, but not their index model.safetensors.index.json: ...". Empty if they do not.
std::string why_no_weights(const std::filesystem::path& folder);

}  // namespace knapsaq
