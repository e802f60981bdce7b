#include "knapsaq/export/gguf/model_metadata.h"

#include <algorithm>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/family/family.h"
#include "knapsaq/model/rotation.h"

namespace knapsaq {
namespace {

[[noreturn]] void refuse(const std::string& what) {
  throw InputError(fmt::format("GGUF: llama.cpp has no code for {}; export to another format", what));
}

GgufValue list_of(const nlohmann::ordered_json& list) {
  if (list.front().is_boolean()) return GgufArray(list.get<std::vector<bool>>());
  if (list.front().is_number_float()) return GgufArray(list.get<std::vector<float>>());
  return GgufArray(list.get<std::vector<std::int32_t>>());
}

GgufValue value_of(const nlohmann::ordered_json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return value.get<float>();
  if (value.is_array()) return list_of(value);
  return value.get<std::uint32_t>();
}

}  // namespace

std::string gguf_architecture(const ModelConfig& config) {
  const GgufFamily& gguf = family_of(config).gguf;
  if (gguf.architecture.empty())
    throw InputError(fmt::format(
        "GGUF has no architecture for {}: llama.cpp cannot run such models; export to gptq, auto-round or "
        "compressed-tensors",
        config.architecture == "OPTForCausalLM" ? "OPT" : config.architecture));
  if (gguf.obstacle != nullptr)
    if (const std::string obstacle = gguf.obstacle(config); !obstacle.empty()) refuse(obstacle);
  return std::string(gguf.architecture);
}

void add_model(const ModelConfig& config, GgufMetadata& metadata, std::vector<std::string>& notes) {
  const std::string arch = gguf_architecture(config);
  const GgufFamily& gguf = family_of(config).gguf;
  nlohmann::ordered_json keys = usual_gguf_keys(config);
  if (!config.ropes.empty() && config.rope().scaling.kind == RopeScaling::Kind::longrope)
    keys["rope.scaling.attn_factor"] = rotary_attention_factor(config.rope().scaling);
  if (gguf.write != nullptr) gguf.write(config, keys);
  for (const auto& [key, value] : keys.items()) metadata.add(arch + "." + key, value_of(value));
  if (!gguf.windows && keys.contains("attention.sliding_window"))
    notes.push_back(
        fmt::format("attention: llama.cpp computes full attention where this model has a sliding window of "
                    "{} tokens; both agree on shorter texts",
                    keys["attention.sliding_window"].get<std::int64_t>()));
}

std::vector<RopeFactors> rope_factors(const ModelConfig& config) {
  if (config.ropes.empty()) return {};
  const Rotary& rope = config.rope();
  if (rope.scaling.kind == RopeScaling::Kind::longrope)
    return {{"rope_factors_long.weight", rope.scaling.long_factor},
            {"rope_factors_short.weight", rope.scaling.short_factor}};
  // Those of a GGUF file are factors already.
  if (rope.scaling.kind == RopeScaling::Kind::frequency_factors)
    return {{"rope_freqs.weight", rope.scaling.frequency_factors}};
  if (rope.scaling.kind != RopeScaling::Kind::llama3) return {};
  const std::int64_t rotated = rope.rotated > 0 ? rope.rotated : config.head_dim;
  std::vector<float> factors = rotary_frequencies({}, rope.theta, rotated, 0);
  const std::vector<float> scaled = rotary_frequencies(rope.scaling, rope.theta, rotated, 0);
  for (std::size_t i = 0; i < factors.size(); ++i) factors[i] /= scaled[i];
  return {{"rope_freqs.weight", std::move(factors)}};
}

}  // namespace knapsaq
