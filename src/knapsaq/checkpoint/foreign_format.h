#pragma once

#include <filesystem>
#include <span>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace knapsaq {

/// The quantized format of a folder's model that Knapsaq does not read, for people: "GPTQ (tensor
/// 'a.qweight')", "compressed-tensors (compression_config in config.json)". Empty if nothing indicates one.
/// `names` are its tensors. It recognises the current quantization_config with its quant_method, what older
/// versions of the tools wrote, and the tensors themselves.
std::string foreign_quantization(const nlohmann::json& config, std::span<const std::string> names);

/// What a folder without config.json is, as far as its other files show, as a clause: "is a diffusers
/// pipeline,
/// ..", or that it has none.
std::string why_no_config(const std::filesystem::path& folder);

/// The reason why a folder has no readable weight files, as far as its other files show: a clause with what
/// to do, "holds shards, but not their index model.safetensors.index.json: ...". Empty if unknown.
std::string why_no_weights(const std::filesystem::path& folder);

}  // namespace knapsaq
