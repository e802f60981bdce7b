// Weights in FP8 (E4M3) with scales: DeepSeek's and Qwen's checkpoints (weight_scale_inv, blocks of 128 x
// 128), FBGEMM's (weight_scale, one for every row), ModelOpt's (weight_scale, one for a tensor). As
// Transformers dequantizes them (integrations/finegrained_fp8.py): fp8 times scale in fp32, then rounded to
// the model's type.

#include <algorithm>
#include <array>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/foreign/foreign.h"
#include "knapsaq/checkpoint/foreign/parts.h"
#include "knapsaq/checkpoint/foreign/scaled.h"

namespace knapsaq {
namespace {

using nlohmann::json;

bool recognises(const json& quantization) {
  const std::string method = foreign::text(quantization, "quant_method");
  if (method == "modelopt") return foreign::text(quantization, "quant_algo") == "FP8";
  return method == "fp8" || method == "fbgemm_fp8" ||
         (method.empty() && quantization.contains("activation_scheme"));
}

/// The extents of blocks: as the description says, and 128, which everybody uses.
std::array<std::vector<std::int64_t>, 2> usual_blocks(const json& quantization) {
  std::array<std::vector<std::int64_t>, 2> out;
  const auto size = quantization.find("weight_block_size");
  if (size != quantization.end() && !size->is_null()) {
    if (!size->is_array() || size->size() != 2 || !(*size)[0].is_number_integer() ||
        !(*size)[1].is_number_integer())
      throw InputError("weight_block_size in the description of the quantization is not two whole numbers");
    for (std::size_t i = 0; i < 2; ++i) out[i].push_back((*size)[i].get<std::int64_t>());
  }
  for (std::vector<std::int64_t>& extents : out) extents.push_back(128);
  return out;
}

ForeignModel read(const ForeignFiles& files) {
  const auto usual = usual_blocks(files.quantization);
  ForeignModel model;
  std::set<std::string> kinds;
  const std::vector<std::string> names = files.tensors.names();
  for (const std::string& name : names) {
    if (files.tensors.spec(name).type != DType::F8_E4M3) continue;
    std::string scale;
    for (const char* ending : {"_scale_inv", "_scale"})
      if (scale.empty() && files.tensors.contains(name + ending)) scale = name + ending;
    if (scale.empty())
      foreign::refuse(name, fmt::format("is FP8, but its scales are missing ({} or {}): the checkpoint is "
                                        "incomplete or only cast to FP8; give one with scales",
                                        in_quotes(name + "_scale_inv"), in_quotes(name + "_scale")));
    std::string kind;
    model.tensors.push_back(foreign::dequantized(files, {name, scale, usual[0], usual[1]}, kind));
    kinds.insert(kind);
  }
  if (model.tensors.empty())
    throw InputError(
        "is described as quantized to FP8, but no tensor is FP8: config.json belongs to another "
        "model");
  for (const std::string& name : names)
    if (name.ends_with("input_scale") || name.ends_with("activation_scale") || name.ends_with(".k_scale") ||
        name.ends_with(".v_scale") || name.ends_with("input_scale_ub"))
      model.unused.push_back(name);
  model.format = fmt::format("FP8 (E4M3), scales of {}", fmt::join(kinds, " and "));
  return model;
}

}  // namespace

const ForeignFormat& fp8_format() {
  static const ForeignFormat format{"FP8", recognises, read};
  return format;
}

}  // namespace knapsaq
