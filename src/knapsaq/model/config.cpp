#include "knapsaq/model/config.h"

#include <algorithm>
#include <array>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"

namespace knapsaq {
namespace {

using nlohmann::json;

/// Every size of a decoder is below this (vocabularies reach 2^18, MLPs 2^16), and products of two of them
/// times the layers stay far inside 64 bits.
constexpr std::int64_t kLargestSize = std::int64_t{1} << 24;
constexpr std::int64_t kMostLayers = 10'000;
constexpr std::int64_t kLargestHead = 4096;

/// Transformers' defaults for fields that are absent; absent and null differ.
struct Family {
  std::string_view model_type;
  std::string_view architecture;
  bool tied;
  std::int64_t kv_heads;  ///< 0: as many as heads
  std::int64_t head_dim;  ///< 0: hidden / heads
  std::int64_t max_positions;
  std::int64_t sliding_window;  ///< 0: none
};
constexpr std::array<Family, 5> kFamilies{{{"opt", "OPTForCausalLM", true, 0, 0, 2048, 0},
                                           {"llama", "LlamaForCausalLM", false, 0, 0, 2048, 0},
                                           {"mistral", "MistralForCausalLM", false, 8, 0, 131072, 4096},
                                           {"qwen2", "Qwen2ForCausalLM", false, 32, 0, 32768, 4096},
                                           {"qwen3", "Qwen3ForCausalLM", false, 32, 128, 32768, 4096}}};
/// The same for all RMSNorm families of Transformers.
constexpr double kDefaultEps = 1e-6;
constexpr double kDefaultTheta = 10000;
/// torch.nn.LayerNorm's default, which OPT has no field for.
constexpr float kLayerNormEps = 1e-5f;

[[noreturn]] void fail(const std::string& reason) { throw InputError("config.json: " + reason); }

/// Fields of one JSON object, checked as they are read.
class Fields {
 public:
  explicit Fields(const json& object) : object_(object) {}

  /// Whether the field is present and not null.
  bool has(const char* name) const { return object_.contains(name) && !object_[name].is_null(); }
  /// Whether the field is present as null: "none", where an absent field means the default.
  bool is_null(const char* name) const { return object_.contains(name) && object_[name].is_null(); }

  const json& get(const char* name) const {
    if (!has(name)) fail(fmt::format("the field {} is missing", name));
    return object_[name];
  }

  std::int64_t size(const char* name, std::int64_t largest = kLargestSize, std::int64_t smallest = 1) const {
    const json& value = get(name);
    if (!value.is_number_integer() || value < smallest || value > largest)
      fail(fmt::format("{} is {}, not a whole number from {} to {}", name,
                       in_quotes(python_json_text(value, -1)), smallest, largest));
    return value.get<std::int64_t>();
  }
  std::int64_t size_or(const char* name, std::int64_t fallback, std::int64_t largest = kLargestSize) const {
    return has(name) ? size(name, largest) : fallback;
  }

  bool flag_or(const char* name, bool fallback) const {
    if (!has(name)) return fallback;
    if (!get(name).is_boolean())
      fail(fmt::format("{} is {}, not true or false", name, in_quotes(python_json_text(get(name), -1))));
    return get(name).get<bool>();
  }

  /// A number that is finite and above zero as a float too.
  float positive(const char* name) const { return positive(name, get(name)); }
  /// A list of this many of them.
  std::vector<float> positives(const char* name, std::int64_t count) const {
    const json& list = get(name);
    if (!list.is_array() || std::ssize(list) != count)
      fail(fmt::format("{} is not a list of {} numbers", name, count));
    std::vector<float> values;
    for (const json& value : list) values.push_back(positive(name, value));
    return values;
  }
  float positive_or(const char* name, double fallback) const {
    return has(name) ? positive(name) : static_cast<float>(fallback);
  }

  std::string text_or(const char* name, std::string_view fallback) const {
    if (!has(name)) return std::string(fallback);
    if (!get(name).is_string())
      fail(fmt::format("{} is {}, not a text", name, in_quotes(python_json_text(get(name), -1))));
    return get(name).get<std::string>();
  }

 private:
  static float positive(const char* name, const json& value) {
    const double number = value.is_number() ? value.get<double>() : 0.0;
    if (!(number >= std::numeric_limits<float>::min() && number <= std::numeric_limits<float>::max()))
      fail(fmt::format("{} is {}, not a positive number", name, in_quotes(python_json_text(value, -1))));
    return static_cast<float>(number);
  }

  const json& object_;
};

std::string supported() {
  std::string names;
  for (const Family& family : kFamilies)
    names += (names.empty() ? "" : ", ") + std::string(family.architecture);
  return names;
}

const Family& find_family(const Fields& fields) {
  const std::string type = fields.text_or("model_type", "");
  std::string architecture;
  if (fields.has("architectures")) {
    const json& list = fields.get("architectures");
    if (!list.is_array() || list.empty() || !list[0].is_string())
      fail("architectures is not a list with a name");
    architecture = list[0].get<std::string>();
  }
  for (const Family& family : kFamilies) {
    // A model saved without its head is called "LlamaModel" or "OPTModel".
    const std::string_view stem =
        family.architecture.substr(0, family.architecture.size() - std::string_view("ForCausalLM").size());
    const bool headless =
        type == family.model_type && (architecture.empty() || architecture == std::string(stem) + "Model");
    if (architecture == family.architecture || headless) return family;
  }
  if (architecture.empty() && type.empty()) fail("the field architectures is missing");
  fail(fmt::format("the architecture {} is not supported; supported are {}",
                   in_quotes(architecture.empty() ? type : architecture), supported()));
}

Activation parse_activation(const std::string& name) {
  constexpr std::array<std::pair<std::string_view, Activation>, 8> kNames{
      {{"silu", Activation::silu},
       {"swish", Activation::silu},
       {"relu", Activation::relu},
       {"gelu", Activation::gelu},
       {"gelu_python", Activation::gelu},
       {"gelu_new", Activation::gelu_tanh},
       {"gelu_pytorch_tanh", Activation::gelu_tanh},
       {"gelu_python_tanh", Activation::gelu_tanh}}};
  const auto found = std::ranges::find(kNames, name, &std::pair<std::string_view, Activation>::first);
  if (found == kNames.end())
    fail(fmt::format("the activation {} is not supported; supported are silu, relu, gelu and gelu_new",
                     in_quotes(name)));
  return found->second;
}

/// Both notations: rope_theta and rope_scaling (which takes precedence, as in Transformers), or
/// rope_parameters.
void read_rope(const Fields& fields, ModelConfig& config) {
  config.rope_theta = fields.positive_or("rope_theta", kDefaultTheta);
  const auto refuse_partial = [](const Fields& source) {
    if (source.has("partial_rotary_factor") && source.positive("partial_rotary_factor") != 1.0f)
      fail("partial_rotary_factor is not 1; rotary positions on a part of the head are not supported");
  };
  refuse_partial(fields);
  const bool old_spelling = fields.has("rope_scaling") && !fields.get("rope_scaling").empty();
  if (!old_spelling && !fields.has("rope_parameters")) return;
  const json& object = fields.get(old_spelling ? "rope_scaling" : "rope_parameters");
  if (!object.is_object()) fail("rope_scaling or rope_parameters is not an object");
  if (std::ranges::any_of(object, [](const json& value) { return value.is_object(); }))
    fail("rope_parameters differ between kinds of layers, which is not supported");
  const Fields rope(object);
  refuse_partial(rope);
  config.rope_theta = rope.positive_or("rope_theta", config.rope_theta);

  const std::string type = rope.text_or("rope_type", rope.text_or("type", "default"));
  if (type == "default") return;
  if (type == "linear") {
    config.rope.kind = RopeScaling::Kind::linear;
    config.rope.factor = rope.positive("factor");
  } else if (type == "llama3") {
    config.rope.kind = RopeScaling::Kind::llama3;
    config.rope.factor = rope.positive("factor");
    config.rope.low_freq_factor = rope.positive("low_freq_factor");
    config.rope.high_freq_factor = rope.positive("high_freq_factor");
    config.rope.original_max_positions = rope.size("original_max_position_embeddings");
    if (config.rope.high_freq_factor <= config.rope.low_freq_factor)
      fail("high_freq_factor is not above low_freq_factor");
  } else if (type == "divisors") {
    config.rope.kind = RopeScaling::Kind::frequency_factors;
    config.rope.frequency_factors = rope.positives("divisors", config.head_dim / 2);
  } else {
    fail(
        fmt::format("rotary positions of type {} are not supported; supported are default, linear and llama3",
                    in_quotes(type)));
  }
}

/// layer_types as the first layer with a sliding window: full attention below, sliding from there on.
std::int64_t first_sliding_layer(const json& types, std::int64_t layers) {
  if (!types.is_array() || static_cast<std::int64_t>(types.size()) != layers)
    fail("layer_types does not name a type for every layer");
  for (const json& type : types) {
    if (type != "full_attention" && type != "sliding_attention")
      fail(fmt::format("layers of type {} are not supported", in_quotes(type.dump())));
  }
  const auto first = std::ranges::find(types, json("sliding_attention"));
  if (std::find(first, types.end(), json("full_attention")) != types.end())
    fail(
        "layer_types mixes full and sliding attention, which is supported only with all sliding layers last");
  return first - types.begin();
}

void read_sliding_window(const Fields& fields, const Family& family, ModelConfig& config) {
  if (family.sliding_window == 0 || fields.is_null("sliding_window")) return;
  const std::int64_t window = fields.size_or("sliding_window", family.sliding_window);
  if (family.model_type == "mistral") {
    config.sliding_window = window;
    return;
  }
  if (!fields.flag_or("use_sliding_window", false)) return;
  constexpr std::int64_t kMaxWindowLayers = 28;  // Transformers' default
  const std::int64_t from =
      fields.has("layer_types")
          ? first_sliding_layer(fields.get("layer_types"), config.layers)
          : (fields.has("max_window_layers") ? fields.size("max_window_layers", kMostLayers, 0)
                                             : kMaxWindowLayers);
  if (from >= config.layers) return;
  config.sliding_window = window;
  config.sliding_from_layer = from;
}

void read_opt(const Fields& fields, ModelConfig& config) {
  config.ffn = fields.size("ffn_dim");
  config.embedding = fields.size_or("word_embed_proj_dim", config.hidden);
  config.positions = Positions::learned;
  config.norm = Norm::layer;
  config.norm_eps = kLayerNormEps;
  config.activation = parse_activation(fields.text_or("activation_function", "relu"));
  config.gated_mlp = false;
  config.norm_before = fields.flag_or("do_layer_norm_before", true);
  config.final_norm = config.norm_before && !fields.flag_or("_remove_final_layer_norm", false);
  config.norm_affine = fields.flag_or("layer_norm_elementwise_affine", true);
  const bool bias = fields.flag_or("enable_bias", true);
  config.qkv_bias = config.o_bias = config.mlp_bias = bias;
}

/// Llama and the families derived from it.
void read_llama(const Fields& fields, const Family& family, ModelConfig& config) {
  config.ffn = fields.size("intermediate_size");
  config.embedding = config.hidden;
  config.norm_eps = fields.positive_or("rms_norm_eps", kDefaultEps);
  config.activation = parse_activation(fields.text_or("hidden_act", "silu"));
  // The flags that a family reads, and the ones that are built in.
  if (family.model_type == "llama" || family.model_type == "qwen3")
    config.qkv_bias = config.o_bias = fields.flag_or("attention_bias", false);
  if (family.model_type == "llama") config.mlp_bias = fields.flag_or("mlp_bias", false);
  if (family.model_type == "qwen2") config.qkv_bias = true;
  if (family.model_type == "qwen3") config.qk_norm = true;
  read_rope(fields, config);
  read_sliding_window(fields, family, config);
}

}  // namespace

ModelConfig parse_model_config(const json& object) {
  if (!object.is_object()) fail("is not a JSON object");
  const Fields fields(object);
  const Family& family = find_family(fields);
  ModelConfig config;
  config.architecture = family.architecture;
  config.hidden = fields.size("hidden_size");
  config.layers = fields.size("num_hidden_layers", kMostLayers);
  config.heads = fields.size("num_attention_heads");
  config.vocab = fields.size("vocab_size");
  config.max_positions = fields.size_or("max_position_embeddings", family.max_positions);
  config.tied = fields.flag_or("tie_word_embeddings", family.tied);

  const bool is_opt = family.model_type == "opt";
  const bool default_kv_heads = family.kv_heads == 0 || fields.is_null("num_key_value_heads");
  config.kv_heads =
      is_opt ? config.heads
             : fields.size_or("num_key_value_heads", default_kv_heads ? config.heads : family.kv_heads);
  if (config.heads % config.kv_heads != 0)
    fail(fmt::format("{} attention heads cannot share {} key and value heads evenly", config.heads,
                     config.kv_heads));
  config.head_dim = is_opt ? 0 : fields.size_or("head_dim", family.head_dim, kLargestHead);
  if (config.head_dim == 0) {
    if (config.hidden % config.heads != 0)
      fail(fmt::format("hidden_size {} is no multiple of num_attention_heads {}", config.hidden,
                       config.heads));
    config.head_dim = config.hidden / config.heads;
  }
  if (is_opt) {
    read_opt(fields, config);
  } else {
    read_llama(fields, family, config);
    if (config.head_dim % 2 != 0)
      fail(fmt::format("head_dim {} is odd; rotary positions need pairs", config.head_dim));
  }
  return config;
}

}  // namespace knapsaq
