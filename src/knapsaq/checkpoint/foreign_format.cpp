#include "knapsaq/checkpoint/foreign_format.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"
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

std::vector<std::string> files_of(const fs::path& folder) {
  std::vector<std::string> files;
  std::error_code status;
  for (fs::directory_iterator at(folder, status), end; !status && at != end; at.increment(status))
    files.push_back(at->path().filename().string());
  std::ranges::sort(files);
  return files;
}

/// The clause about a folder with an adapter.
std::string adapter(const fs::path& folder) {
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 20;
  std::string base = "its base model";
  try {
    const json config = parse_python_json(read_file(folder / "adapter_config.json", kLargest));
    if (config.is_object() && config.contains("base_model_name_or_path") &&
        config["base_model_name_or_path"].is_string())
      base =
          fmt::format("its base model {}", in_quotes(config["base_model_name_or_path"].get<std::string>()));
  } catch (const Error&) {
    // The name of the base model is an extra.
  }
  return fmt::format(
      "holds an adapter (LoRA), not a model: merge it into {} first (merge_and_unload of PEFT)", base);
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

std::string why_no_config(const fs::path& folder) {
  std::error_code ignored;
  if (fs::exists(folder / "adapter_config.json", ignored)) return adapter(folder);
  if (fs::exists(folder / "model_index.json", ignored))
    return "is a diffusers pipeline (model_index.json), which makes images: language models are read";
  for (const std::string& name : files_of(folder))
    if (name.ends_with(".gguf"))
      return fmt::format("holds GGUF files: give the file {} itself", in_quotes(name));
  return "has no config.json; give the folder of a Hugging Face model";
}

std::string why_no_weights(const fs::path& folder) {
  const std::vector<std::string> files = files_of(folder);
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
  if (!find("adapter_model", "").empty() || !find("adapter_config.json", "").empty()) return adapter(folder);
  if (const std::string name = find("gptq_model", ".safetensors"); !name.empty())
    return fmt::format("has {}, as AutoGPTQ named its files: rename it to model.safetensors", name);
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
