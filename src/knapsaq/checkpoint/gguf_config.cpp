#include "knapsaq/checkpoint/gguf_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <set>
#include <type_traits>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/gguf_fields.h"
#include "knapsaq/family/family.h"

namespace knapsaq {
namespace {

using nlohmann::json;

/// Keys of llama.cpp's loaders that change the arithmetic in a way that Knapsaq does not compute, unless they
/// are 0 (llama-model.cpp).
constexpr std::array<std::string_view, 7> kUnsupported{
    "expert_count", "expert_used_count", "attention.clamp_kqv", "attention.max_alibi_bias",
    "logit_scale",  "residual_scale",    "embedding_scale"};

/// The parameters of Llama 3's rule, in Hugging Face's notation, where its frequency factors are these; null
/// if they are others. All published models have the same limits, and factors of 8 or 32.
json llama3_scaling(double theta, std::int64_t rotated, const std::vector<float>& factors) {
  constexpr double kOriginal = 8192;
  constexpr double kLow = 1;
  constexpr double kHigh = 4;
  constexpr double kTolerance = 1e-4;  // the factors are floats, of floats
  const double factor = std::round(static_cast<double>(factors.back()) / kTolerance) * kTolerance;
  if (!(factor > 1)) return nullptr;
  for (std::size_t i = 0; i < factors.size(); ++i) {
    const double wavelength =
        2 * std::numbers::pi * std::pow(theta, 2 * static_cast<double>(i) / static_cast<double>(rotated));
    const double part = std::clamp((kOriginal / wavelength - kLow) / (kHigh - kLow), 0.0, 1.0);
    const double expected = 1 / ((1 - part) / factor + part);
    if (!(std::abs(static_cast<double>(factors[i]) - expected) <= kTolerance * expected)) return nullptr;
  }
  return {{"rope_type", "llama3"},
          {"factor", factor},
          {"low_freq_factor", kLow},
          {"high_freq_factor", kHigh},
          {"original_max_position_embeddings", static_cast<std::int64_t>(kOriginal)}};
}

class Maker {
 public:
  Maker(const GgufMetadata& metadata, const FindGgufTensor& tensor, const std::string& where)
      : metadata_(metadata), fields_(metadata, where), tensor_(tensor), where_(where) {}

  json make() {
    architecture();
    for (const std::string_view name : kUnsupported) {
      if (std::ranges::find(family_->gguf.reads, name) != family_->gguf.reads.end()) continue;
      if (fields_.number(key(name)).value_or(0) != 0)
        fields_.fail(key(name), "is set, which is not supported");
    }
    sizes();
    positions();
    window();
    roles();
    if (family_->gguf.read != nullptr) family_->gguf.read(keys(metadata_), config_);
    return std::move(config_);
  }

 private:
  std::string key(std::string_view name) const { return fmt::format("{}.{}", arch_, name); }
  [[noreturn]] void fail(const std::string& reason) const { throw InputError(where_ + ": " + reason); }

  void architecture() {
    arch_ = fields_.required_text("general.architecture");
    // The first of several that llama.cpp has the same code for; mixtures of experts are families of their
    // own.
    const bool experts = fields_.number(key("expert_count")).value_or(0) != 0;
    for (const Family* family : families()) {
      if (family->gguf.architecture != arch_) continue;
      const bool reads_experts =
          std::ranges::find(family->gguf.reads, "expert_count") != family->gguf.reads.end();
      if (family_ == nullptr || (experts && reads_experts)) family_ = family;
      if (experts == reads_experts) break;
    }
    if (family_ == nullptr) {
      std::set<std::string_view> names;
      for (const Family* family : families())
        if (!family->gguf.architecture.empty()) names.insert(family->gguf.architecture);
      fail(fmt::format("the architecture {} is not supported; supported in GGUF files are {}",
                       in_quotes(arch_), fmt::join(names, ", ")));
    }
    config_["model_type"] = family_->model_type;
    config_["architectures"] = {family_->architecture};
  }

  void sizes() {
    const std::int64_t hidden = fields_.required_integer(key("embedding_length"));
    const std::int64_t heads = fields_.required_integer(key("attention.head_count"));
    if (heads < 1) fields_.fail(key("attention.head_count"), "is not above 0");
    const std::int64_t head_dim = fields_.integer(key("attention.key_length")).value_or(hidden / heads);
    if (fields_.integer(key("attention.value_length")).value_or(head_dim) != head_dim)
      fields_.fail(key("attention.value_length"),
                   "differs from attention.key_length, which is not supported");
    head_dim_ = head_dim;
    config_["hidden_size"] = hidden;
    config_["intermediate_size"] = fields_.required_integer(key("feed_forward_length"));
    config_["num_hidden_layers"] = fields_.required_integer(key("block_count"));
    config_["num_attention_heads"] = heads;
    config_["num_key_value_heads"] = fields_.integer(key("attention.head_count_kv")).value_or(heads);
    config_["head_dim"] = head_dim;
    config_["max_position_embeddings"] = fields_.required_integer(key("context_length"));
    const bool layer_norm = fields_.number(key("attention.layer_norm_epsilon")).has_value();
    config_[layer_norm ? "layer_norm_eps" : "rms_norm_eps"] = fields_.required_number(
        key(layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"));
    config_["hidden_act"] = "silu";
    const GgufTensor* embedding = tensor_("token_embd.weight");
    if (embedding == nullptr || embedding->shape.size() != 2) fail("there is no matrix token_embd.weight");
    config_["vocab_size"] = embedding->shape[0];
    config_["tie_word_embeddings"] = tensor_("output.weight") == nullptr;
    config_["attention_bias"] = tensor_("blk.0.attn_q.bias") != nullptr;
    config_["mlp_bias"] = tensor_("blk.0.ffn_down.bias") != nullptr;
  }

  void positions() {
    config_["rope_theta"] = fields_.number(key("rope.freq_base")).value_or(10000.0);
    const std::int64_t rotated = fields_.integer(key("rope.dimension_count")).value_or(head_dim_);
    if (rotated < 2 || rotated > head_dim_ || rotated % 2 != 0)
      fields_.fail(key("rope.dimension_count"),
                   fmt::format("is not a part of a head of {} numbers", head_dim_));
    rotated_ = rotated;
    if (rotated != head_dim_)
      config_["partial_rotary_factor"] = static_cast<double>(rotated) / static_cast<double>(head_dim_);
    const std::string type = fields_.text(key("rope.scaling.type")).value_or("none");
    // Files of 2023 have the factor only.
    const double factor = fields_.number(key("rope.scaling.factor"))
                              .value_or(fields_.number(key("rope.scale_linear")).value_or(1.0));
    const bool linear = type == "linear" || fields_.number(key("rope.scale_linear")).value_or(1.0) != 1.0;
    if (type != "none" && type != "linear" && type != "yarn" && type != "longrope")
      fields_.fail(key("rope.scaling.type"),
                   fmt::format("is {}, which is not supported; supported are none, linear, yarn and longrope",
                               in_quotes(type)));
    const GgufTensor* factors = tensor_("rope_freqs.weight");
    if (factors != nullptr) {
      if (linear) fail("both rope.scaling and rope_freqs.weight scale the positions, which is not supported");
      const std::vector<float> divisors = read_factors(*factors, "rope_freqs.weight");
      config_["rope_scaling"] = llama3_scaling(config_["rope_theta"].get<double>(), rotated_, divisors);
      if (config_["rope_scaling"].is_null())
        config_["rope_scaling"] = {{"rope_type", "divisors"}, {"divisors", divisors}};
    } else if (linear) {
      config_["rope_scaling"] = {{"rope_type", "linear"}, {"factor", factor}};
    } else if (type == "yarn") {
      yarn(factor);
    } else if (tensor_("rope_factors_long.weight") != nullptr) {
      longrope();
    }
  }

  std::int64_t original_length() const {
    return fields_.integer(key("rope.scaling.original_context_length"))
        .value_or(fields_.required_integer(key("context_length")));
  }

  void yarn(double factor) {
    json scaling = {
        {"rope_type", "yarn"}, {"factor", factor}, {"original_max_position_embeddings", original_length()}};
    // llama.cpp's is a factor of 1 + 0.1 ln(factor).
    if (const auto attention = fields_.number(key("rope.scaling.attn_factor")))
      scaling["attention_factor"] = *attention * (1 + 0.1 * std::log(std::max(factor, 1.0)));
    for (const auto& [name, field] :
         {std::pair{"yarn_beta_fast", "beta_fast"}, {"yarn_beta_slow", "beta_slow"}})
      if (const auto beta = fields_.number(key(fmt::format("rope.scaling.{}", name)))) scaling[field] = *beta;
    config_["rope_scaling"] = std::move(scaling);
  }

  void longrope() {
    json scaling = {{"rope_type", "longrope"}, {"original_max_position_embeddings", original_length()}};
    for (const char* which : {"short", "long"}) {
      const std::string name = fmt::format("rope_factors_{}.weight", which);
      const GgufTensor* tensor = tensor_(name);
      if (tensor == nullptr) fail(fmt::format("there is no tensor {}", name));
      scaling[fmt::format("{}_factor", which)] = read_factors(*tensor, name);
    }
    if (const auto attention = fields_.number(key("rope.scaling.attn_factor")))
      scaling["attention_factor"] = *attention;
    config_["rope_scaling"] = std::move(scaling);
  }

  std::vector<float> read_factors(const GgufTensor& tensor, std::string_view name) const {
    const auto* type = std::get_if<DType>(&tensor.type);
    if (type == nullptr || tensor.shape.size() != 1 || head_dim_ < 2 || tensor.shape[0] != rotated_ / 2)
      fail(fmt::format("{} is not a number for each of {} pairs", name, rotated_ / 2));
    return read_floats({*type, tensor.shape, tensor.bytes});
  }

  void window() {
    const std::int64_t window = fields_.integer(key("attention.sliding_window")).value_or(0);
    if (window == 0) {
      config_["sliding_window"] = nullptr;
      return;
    }
    config_["sliding_window"] = window;
    if (arch_ == "llama") {
      config_["model_type"] = "mistral";
      config_["architectures"] = {"MistralForCausalLM"};
      return;
    }
    config_["use_sliding_window"] = true;
    const std::vector<bool>* pattern = fields_.flags(key("attention.sliding_window_pattern"));
    if (pattern == nullptr) {
      config_["max_window_layers"] = 0;
      return;
    }
    json types = json::array();
    for (const bool slides : *pattern) types.push_back(slides ? "sliding_attention" : "full_attention");
    config_["layer_types"] = std::move(types);
  }

  void roles() {
    const auto id_of = [&](const char* role) {
      return fields_.integer(fmt::format("tokenizer.ggml.{}_token_id", role));
    };
    if (const auto id = id_of("bos")) config_["bos_token_id"] = *id;
    // End-of-turn and end-of-message tokens end a text, as in Hugging Face's lists.
    std::vector<std::int64_t> ends;
    for (const char* role : {"eos", "eot", "eom"})
      if (const auto id = id_of(role)) ends.push_back(*id);
    if (ends.size() == 1) config_["eos_token_id"] = ends.front();
    if (ends.size() > 1) config_["eos_token_id"] = ends;
  }

  /// The architecture's own metadata; numbers, truth values, texts and lists of these.
  json keys(const GgufMetadata& metadata) const {
    json keys = json::object();
    const std::string prefix = arch_ + ".";
    for (const auto& [key, value] : metadata.entries()) {
      if (!key.starts_with(prefix)) continue;
      keys[key.substr(prefix.size())] = std::visit(
          [](const auto& one) -> json {
            if constexpr (std::is_same_v<std::decay_t<decltype(one)>, GgufArray>) {
              return std::visit(
                  [](const auto& list) -> json {
                    if constexpr (std::is_same_v<std::decay_t<decltype(list)>, std::monostate>) {
                      return nullptr;
                    } else {
                      return json(list);
                    }
                  },
                  one);
            } else {
              return json(one);
            }
          },
          value);
    }
    return keys;
  }

  const GgufMetadata& metadata_;
  GgufFields fields_;
  const Family* family_ = nullptr;
  const FindGgufTensor& tensor_;
  const std::string& where_;
  std::string arch_;
  std::int64_t head_dim_ = 0;
  std::int64_t rotated_ = 0;
  json config_ = json::object();
};

}  // namespace

json config_of_gguf(const GgufMetadata& metadata, const FindGgufTensor& tensor, const std::string& where) {
  return Maker(metadata, tensor, where).make();
}

}  // namespace knapsaq
