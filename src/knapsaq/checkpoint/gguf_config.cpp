#include "knapsaq/checkpoint/gguf_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/gguf_fields.h"

namespace knapsaq {
namespace {

using nlohmann::json;

struct Architecture {
  std::string_view name;  ///< llama.cpp's
  std::string_view model_type;
  std::string_view architecture;
};
constexpr std::array<Architecture, 3> kArchitectures{{{"llama", "llama", "LlamaForCausalLM"},
                                                      {"qwen2", "qwen2", "Qwen2ForCausalLM"},
                                                      {"qwen3", "qwen3", "Qwen3ForCausalLM"}}};

/// Keys of llama.cpp's loaders that change the arithmetic in a way that Knapsaq does not compute, unless they
/// are 0 (llama-model.cpp).
constexpr std::array<std::string_view, 7> kUnsupported{
    "expert_count", "expert_used_count", "attention.clamp_kqv", "attention.max_alibi_bias",
    "logit_scale",  "residual_scale",    "embedding_scale"};

class Maker {
 public:
  Maker(const GgufMetadata& metadata, const FindGgufTensor& tensor, const std::string& where)
      : fields_(metadata, where), tensor_(tensor), where_(where) {}

  json make() {
    architecture();
    for (const std::string_view name : kUnsupported) {
      if (fields_.number(key(name)).value_or(0) != 0)
        fields_.fail(key(name), "is set, which is not supported");
    }
    sizes();
    positions();
    window();
    roles();
    return std::move(config_);
  }

 private:
  std::string key(std::string_view name) const { return fmt::format("{}.{}", arch_, name); }
  [[noreturn]] void fail(const std::string& reason) const { throw InputError(where_ + ": " + reason); }

  void architecture() {
    arch_ = fields_.required_text("general.architecture");
    const auto* found = std::ranges::find(kArchitectures, arch_, &Architecture::name);
    if (found == kArchitectures.end()) {
      std::string names;
      for (const Architecture& one : kArchitectures)
        names += (names.empty() ? "" : ", ") + std::string(one.name);
      fail(fmt::format("the architecture {} is not supported; supported in GGUF files are {}",
                       in_quotes(arch_), names));
    }
    config_["model_type"] = found->model_type;
    config_["architectures"] = {found->architecture};
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
    config_["rms_norm_eps"] = fields_.required_number(key("attention.layer_norm_rms_epsilon"));
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
    if (fields_.integer(key("rope.dimension_count")).value_or(head_dim_) != head_dim_)
      fields_.fail(key("rope.dimension_count"), "is not the size of a head, which is not supported");
    const std::string type = fields_.text(key("rope.scaling.type")).value_or("none");
    // Files of 2023 have the factor only.
    const double factor = fields_.number(key("rope.scaling.factor"))
                              .value_or(fields_.number(key("rope.scale_linear")).value_or(1.0));
    const bool linear = type == "linear" || fields_.number(key("rope.scale_linear")).value_or(1.0) != 1.0;
    if (type != "none" && type != "linear")
      fields_.fail(
          key("rope.scaling.type"),
          fmt::format("is {}, which is not supported; supported are none and linear", in_quotes(type)));
    const GgufTensor* factors = tensor_("rope_freqs.weight");
    if (factors != nullptr) {
      if (linear) fail("both rope.scaling and rope_freqs.weight scale the positions, which is not supported");
      config_["rope_scaling"] = {{"rope_type", "divisors"}, {"divisors", read_factors(*factors)}};
    } else if (linear) {
      config_["rope_scaling"] = {{"rope_type", "linear"}, {"factor", factor}};
    }
  }

  std::vector<float> read_factors(const GgufTensor& tensor) const {
    const auto* type = std::get_if<DType>(&tensor.type);
    if (type == nullptr || tensor.shape.size() != 1 || head_dim_ < 2 || tensor.shape[0] != head_dim_ / 2)
      fail(fmt::format("rope_freqs.weight is not a number for each of {} pairs", head_dim_ / 2));
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

  GgufFields fields_;
  const FindGgufTensor& tensor_;
  const std::string& where_;
  std::string arch_;
  std::int64_t head_dim_ = 0;
  json config_ = json::object();
};

}  // namespace

json config_of_gguf(const GgufMetadata& metadata, const FindGgufTensor& tensor, const std::string& where) {
  return Maker(metadata, tensor, where).make();
}

}  // namespace knapsaq
