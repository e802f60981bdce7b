#include "knapsaq/checkpoint/foreign_format.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// The marks of one tool's file.
struct Mark {
  std::string_view mark;
  std::string_view tool;
};

/// Endings of tensors' names. Marks shared by several tools come last.
constexpr std::array<Mark, 16> kEndings{{{".g_idx", "GPTQ"},
                                         {".weight_packed", "compressed-tensors"},
                                         {".weight_zero_point", "compressed-tensors"},
                                         {".weight_shape", "compressed-tensors"},
                                         {".weight_scale_inv", "FP8 in blocks"},
                                         {".SCB", "bitsandbytes in 8 bits"},
                                         {".weight.quant_map", "bitsandbytes in 4 bits"},
                                         {".weight.absmax", "bitsandbytes in 4 bits"},
                                         {".W_q", "HQQ"},
                                         {".Qidxs", "QuIP#"},
                                         {".codebooks", "AQLM"},
                                         {".q_scale", "EXL2"},
                                         {".trellis", "EXL3"},
                                         {".weight_scale", "compressed-tensors, or another tool in 8 bits"},
                                         {".qweight", "AWQ or GPTQ"},
                                         {".qzeros", "AWQ or GPTQ"}}};

/// Keys of a quantization_config without a quant_method, and of config.json itself.
constexpr std::array<Mark, 8> kKeys{{{"config_groups", "compressed-tensors"},
                                     {"quantization_status", "compressed-tensors"},
                                     {"load_in_8bit", "bitsandbytes"},
                                     {"load_in_4bit", "bitsandbytes"},
                                     {"desc_act", "GPTQ"},
                                     {"damp_percent", "GPTQ"},
                                     {"w_bit", "AWQ"},
                                     {"activation_scheme", "FP8"}}};

std::string tool_of_keys(const json& object, std::string_view where) {
  for (const Mark& key : kKeys)
    if (object.contains(key.mark) && object[std::string(key.mark)] != false)
      return fmt::format("{} ({} in {})", key.tool, key.mark, where);
  return "";
}

}  // namespace

std::string foreign_quantization(const json& config, std::span<const std::string> names) {
  if (config.contains("compression_config") && !config["compression_config"].is_null())
    return "compressed-tensors (compression_config in config.json)";
  for (const char* key : {"quantization_config", "quantization"}) {
    if (!config.contains(key) || !config[key].is_object()) continue;
    if (std::string tool = tool_of_keys(config[key], fmt::format("{} of config.json", key)); !tool.empty())
      return tool;
  }
  for (const Mark& ending : kEndings) {
    const auto found =
        std::ranges::find_if(names, [&](std::string_view name) { return name.ends_with(ending.mark); });
    if (found != names.end()) return fmt::format("{} (tensor {})", ending.tool, in_quotes(*found));
  }
  return "";
}

std::string why_no_weights(const fs::path& folder) {
  std::vector<std::string> files;
  std::error_code status;
  for (fs::directory_iterator at(folder, status), end; !status && at != end; at.increment(status))
    files.push_back(at->path().filename().string());
  std::ranges::sort(files);
  const auto find = [&](std::string_view begin, std::string_view end) -> std::string {
    const auto found = std::ranges::find_if(files, [&](const std::string& name) {
      return name.size() >= begin.size() + end.size() && name.starts_with(begin) && name.ends_with(end);
    });
    return found == files.end() ? std::string() : in_quotes(*found);
  };
  if (!find("model-", ".safetensors").empty())
    return "holds shards, but not their index model.safetensors.index.json: download it too";
  if (!find("pytorch_model-", ".bin").empty())
    return "holds shards, but not their index pytorch_model.bin.index.json: download it too";
  if (!find("adapter_model", "").empty())
    return "holds an adapter (LoRA), not a model: merge it into its base model first (merge_and_unload of "
           "PEFT)";
  if (!find("quantize_config.json", "").empty() || !find("gptq_model", "").empty())
    return "holds a model that is quantized by GPTQ, which Knapsaq does not read: give the full-precision "
           "model";
  if (!find("quant_config.json", "").empty())
    return "holds a model that is quantized by AWQ, which Knapsaq does not read: give the full-precision "
           "model";
  if (!find("qmodel.pt", "").empty())
    return "holds a model that is quantized by HQQ, which Knapsaq does not read: give the full-precision "
           "model";
  if (const std::string name = find("", ".gguf"); !name.empty())
    return fmt::format("holds GGUF files: give the file {} itself", name);
  if (!find("consolidated", "").empty())
    return "is in Meta's or Mistral's own layout: give the one in Hugging Face layout, or convert it";
  if (!find("tf_model", "").empty() || !find("flax_model", "").empty())
    return "holds weights of TensorFlow or Flax only: save the model as safetensors with Transformers";
  if (const std::string name = find("", ".safetensors"); !name.empty())
    return fmt::format(
        "has {}, but model.safetensors, or shards with an index, are looked for: rename it if it "
        "is the whole model",
        name);
  return "";
}

}  // namespace knapsaq
