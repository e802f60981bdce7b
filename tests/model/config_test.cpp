#include <filesystem>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"
#include "message_of.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json load_references() {
  return json::parse(read_file(std::filesystem::path(KNAPSAQ_TEST_DATA) / "model/configs.json")).at("cases");
}

/// Calls visit(config, expected) for every configuration that tools/make_config_references.py made, in each
/// of its spellings.
template <class Visit>
void for_every_reference(Visit&& visit) {
  int count = 0;
  const json references = load_references();
  for (const auto& [name, reference] : references.items()) {
    for (const auto& [spelling, config] : reference.at("configs").items()) {
      SCOPED_TRACE(name + " as " + spelling);
      visit(config, reference.at("expected"));
      ++count;
    }
  }
  EXPECT_GE(count, 75);
}

json small_llama() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", 32},
          {"intermediate_size", 80},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"vocab_size", 48}};
}

std::string complaint(const json& config) {
  return message_of([&] { parse_model_config(config); });
}

std::string complaint(const char* field, const json& value) {
  json config = small_llama();
  config[field] = value;
  return complaint(config);
}

TEST(ModelConfig, SaysWhatTransformersUnderstands) {
  for_every_reference([](const json& text, const json& expected) {
    const ModelConfig config = parse_model_config(text);
    EXPECT_EQ(config.architecture, text.at("architectures").at(0).get<std::string>());
    EXPECT_EQ(config.hidden, expected.at("hidden"));
    EXPECT_EQ(config.embedding, expected.at("embedding"));
    EXPECT_EQ(config.ffn, expected.at("ffn"));
    EXPECT_EQ(config.layers, expected.at("layers"));
    EXPECT_EQ(config.heads, expected.at("heads"));
    EXPECT_EQ(config.kv_heads, expected.at("kv_heads"));
    EXPECT_EQ(config.head_dim, expected.at("head_dim"));
    EXPECT_EQ(config.vocab, expected.at("vocab"));
    EXPECT_EQ(config.max_positions, expected.at("max_positions"));
    EXPECT_FLOAT_EQ(config.norm_eps, expected.at("norm_eps").get<float>());
    EXPECT_FLOAT_EQ(config.rope_theta, expected.at("rope_theta").get<float>());
    EXPECT_FLOAT_EQ(config.rope.factor, expected.at("rope_factor").get<float>());
    const std::map<RopeScaling::Kind, std::string> kinds{{RopeScaling::Kind::none, "default"},
                                                         {RopeScaling::Kind::linear, "linear"},
                                                         {RopeScaling::Kind::llama3, "llama3"}};
    EXPECT_EQ(kinds.at(config.rope.kind), expected.at("rope_type").get<std::string>());
    EXPECT_EQ(config.tied, expected.at("tied"));
    EXPECT_EQ(config.sliding_window, expected.at("sliding_window"));
    EXPECT_EQ(config.sliding_from_layer, expected.at("sliding_from_layer"));
  });
}

TEST(ModelConfig, TheTensorsAreThoseOfTheRealModel) {
  for_every_reference([](const json& text, const json& expected) {
    const ModelConfig config = parse_model_config(text);
    std::map<std::string, std::vector<std::int64_t>> ours;
    const auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
      // The reference has the first block only.
      if (name.find(".layers.") == name.npos || name.find(".layers.0.") != name.npos)
        ours.emplace(name, std::move(shape));
    };
    for (const ExpectedTensor& tensor : dense_tensors(config)) add(tensor.name, tensor.shape);
    for (const Matrix& matrix : matrices(config)) add(matrix.name + ".weight", {matrix.out, matrix.in});
    EXPECT_EQ(json(ours), expected.at("tensors"));
  });
}

TEST(ModelConfig, OptVariants) {
  const json cases = load_references();
  const auto parse = [&](const char* name) {
    return parse_model_config(cases.at(name).at("configs").at("transformers4"));
  };
  EXPECT_TRUE(parse("opt").norm_before);
  EXPECT_TRUE(parse("opt").final_norm);
  EXPECT_EQ(parse("opt").positions, Positions::learned);
  EXPECT_EQ(parse("opt").norm, Norm::layer);
  EXPECT_EQ(parse("opt").activation, Activation::relu);
  EXPECT_FALSE(parse("opt").gated_mlp);
  EXPECT_FALSE(parse("opt-350m").norm_before);
  EXPECT_FALSE(parse("opt-350m").final_norm);
  EXPECT_FALSE(parse("opt-old-finetune").final_norm);
  EXPECT_TRUE(parse("opt-old-finetune").norm_before);
  EXPECT_FALSE(parse("opt-plain-norms").norm_affine);
  EXPECT_EQ(parse("opt-gelu").activation, Activation::gelu);
  EXPECT_TRUE(parse("qwen3").qk_norm);
  EXPECT_FALSE(parse("qwen2").qk_norm);
}

TEST(ModelConfig, LinearsComeInTheOrderOfTheForwardPass) {
  const std::vector<Matrix> all = linears(parse_model_config(small_llama()));
  ASSERT_EQ(all.size(), 14u);
  std::vector<std::string> modules;
  for (const Matrix& linear : all) modules.push_back(std::to_string(linear.block) + " " + linear.module);
  EXPECT_THAT(
      std::vector(modules.begin() + 7, modules.end()),
      testing::ElementsAre("1 self_attn.q_proj", "1 self_attn.k_proj", "1 self_attn.v_proj",
                           "1 self_attn.o_proj", "1 mlp.gate_proj", "1 mlp.up_proj", "1 mlp.down_proj"));
  EXPECT_EQ(all[9].name, "model.layers.1.self_attn.v_proj");
  EXPECT_EQ(all[13].parameters(), 32 * 80);
}

TEST(ModelConfig, ArchitecturesThatAreNotSupportedAreNamed) {
  EXPECT_THAT(
      complaint("architectures", {"MixtralForCausalLM"}),
      testing::AllOf(HasSubstr("'MixtralForCausalLM' is not supported"), HasSubstr("Qwen3ForCausalLM")));
  EXPECT_THAT(complaint("architectures", {"LlamaForSequenceClassification"}), HasSubstr("not supported"));
  EXPECT_THAT(complaint("architectures", 7), HasSubstr("architectures"));
  EXPECT_THAT(complaint(json::object()), HasSubstr("architectures is missing"));
  EXPECT_THAT(complaint(json::array()), HasSubstr("not a JSON object"));
  json headless = small_llama();
  headless["architectures"] = {"LlamaModel"};
  EXPECT_EQ(parse_model_config(headless).architecture, "LlamaForCausalLM");
  headless.erase("architectures");
  EXPECT_EQ(parse_model_config(headless).architecture, "LlamaForCausalLM");
  headless["model_type"] = "mamba";
  EXPECT_THAT(complaint(headless), HasSubstr("'mamba' is not supported"));
}

TEST(ModelConfig, ValuesOutsideSaneBoundsAreRefused) {
  for (const char* field :
       {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"}) {
    for (const json& value :
         {json(0), json(-1), json(1.5), json("32"), json(std::int64_t{1} << 40), json(~std::uint64_t{0})})
      EXPECT_THAT(complaint(field, value), HasSubstr(field)) << value;
    EXPECT_THAT(complaint(field, nullptr), HasSubstr(std::string("the field ") + field + " is missing"));
  }
  EXPECT_THAT(complaint("num_attention_heads", 5), HasSubstr("no multiple"));
  EXPECT_THAT(complaint("num_key_value_heads", 3), HasSubstr("evenly"));
  EXPECT_THAT(complaint("head_dim", 7), HasSubstr("odd"));
  EXPECT_THAT(complaint("rms_norm_eps", 0), HasSubstr("rms_norm_eps"));
  EXPECT_THAT(complaint("rms_norm_eps", 1e300), HasSubstr("rms_norm_eps"));
  EXPECT_THAT(complaint("rope_theta", -1), HasSubstr("rope_theta"));
  EXPECT_THAT(complaint("tie_word_embeddings", "yes"), HasSubstr("not true or false"));
  EXPECT_THAT(complaint("hidden_act", "quick_gelu"), HasSubstr("'quick_gelu' is not supported"));
}

TEST(ModelConfig, RotaryPositionsThatAreNotSupportedAreNamed) {
  for (const char* type : {"yarn", "dynamic", "longrope", "su"}) {
    EXPECT_THAT(complaint("rope_scaling", {{"rope_type", type}, {"factor", 2}}), HasSubstr(type));
    EXPECT_THAT(complaint("rope_scaling", {{"type", type}, {"factor", 2}}), HasSubstr(type));
    EXPECT_THAT(complaint("rope_parameters", {{"rope_type", type}, {"rope_theta", 1e4}}), HasSubstr(type));
  }
  EXPECT_THAT(complaint("rope_scaling", {{"type", "linear"}}), HasSubstr("factor is missing"));
  EXPECT_THAT(complaint("rope_scaling", {{"rope_type", "llama3"}, {"factor", 8}}),
              HasSubstr("low_freq_factor"));
  EXPECT_THAT(complaint("rope_scaling", 7), HasSubstr("not an object"));
  EXPECT_THAT(complaint("partial_rotary_factor", 0.5), HasSubstr("partial_rotary_factor"));
  EXPECT_THAT(complaint("rope_parameters", {{"partial_rotary_factor", 0.5}}),
              HasSubstr("partial_rotary_factor"));
  EXPECT_THAT(complaint("rope_parameters", {{"full_attention", {{"rope_theta", 1e4}}}}),
              HasSubstr("between kinds of layers"));
}

TEST(ModelConfig, SlidingLayersMustBeTheLastOnes) {
  json config = small_llama();
  config["architectures"] = {"Qwen2ForCausalLM"};
  config["num_key_value_heads"] = 4;
  config["use_sliding_window"] = true;
  config["sliding_window"] = 8;
  config["layer_types"] = {"sliding_attention", "full_attention"};
  EXPECT_THAT(complaint(config), HasSubstr("all sliding layers last"));
  config["layer_types"] = {"sliding_attention"};
  EXPECT_THAT(complaint(config), HasSubstr("every layer"));
  config["layer_types"] = {"full_attention", "linear_attention"};
  EXPECT_THAT(complaint(config), HasSubstr("linear_attention"));
  config["layer_types"] = {"full_attention", "full_attention"};
  EXPECT_EQ(parse_model_config(config).sliding_window, 0);
  config["layer_types"] = {"sliding_attention", "sliding_attention"};
  EXPECT_EQ(parse_model_config(config).sliding_from_layer, 0);
  EXPECT_EQ(parse_model_config(config).sliding_window, 8);
}

TEST(ModelConfig, TheEmbeddedModelsAreUnderstood) {
  for (const char* name : {"wiki-opt-3m", "wiki-llama-6m"}) {
    const auto path = std::filesystem::path(KNAPSAQ_SOURCE_DIR) / "assets" / name;
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
    const Checkpoint checkpoint = Checkpoint::open(path);
    EXPECT_NO_THROW(check_shapes(checkpoint, parse_model_config(checkpoint.config())));
  }
}

}  // namespace
}  // namespace knapsaq
