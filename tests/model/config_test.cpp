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
    const Rotary rope = config.ropes.empty() ? Rotary() : config.ropes.front();
    EXPECT_FLOAT_EQ(rope.theta, expected.at("rope_theta").get<float>());
    EXPECT_FLOAT_EQ(rope.scaling.factor, expected.at("rope_factor").get<float>());
    const std::map<RopeScaling::Kind, std::string> kinds{{RopeScaling::Kind::none, "default"},
                                                         {RopeScaling::Kind::linear, "linear"},
                                                         {RopeScaling::Kind::llama3, "llama3"}};
    EXPECT_EQ(kinds.at(rope.scaling.kind), expected.at("rope_type").get<std::string>());
    EXPECT_EQ(config.tied, expected.at("tied"));
    for (std::int64_t i = 0; i < config.layers; ++i)
      EXPECT_EQ(layer_config(config, i).sliding_window,
                i < expected.at("sliding_from_layer").get<std::int64_t>() ? json(0)
                                                                          : expected.at("sliding_window"));
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
  EXPECT_EQ(parse("opt").norms, NormPlacement::before);
  EXPECT_TRUE(parse("opt").final_norm);
  EXPECT_EQ(parse("opt").positions, Positions::learned);
  EXPECT_EQ(parse("opt").norm, Norm::layer);
  EXPECT_EQ(parse("opt").activation, Activation::relu);
  EXPECT_FALSE(parse("opt").gated_mlp);
  EXPECT_EQ(parse("opt-350m").norms, NormPlacement::after_sum);
  EXPECT_FALSE(parse("opt-350m").final_norm);
  EXPECT_FALSE(parse("opt-old-finetune").final_norm);
  EXPECT_EQ(parse("opt-old-finetune").norms, NormPlacement::before);
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
      complaint("architectures", {"MambaForCausalLM"}),
      testing::AllOf(HasSubstr("'MambaForCausalLM' is not supported"), HasSubstr("Qwen3ForCausalLM")));
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
  EXPECT_THAT(complaint("rope_scaling", {{"rope_type", "mrope"}, {"factor", 2}}), HasSubstr("'mrope'"));
  EXPECT_THAT(complaint("rope_scaling", {{"type", "mrope"}, {"factor", 2}}), HasSubstr("longrope"));
  for (const char* type : {"yarn", "dynamic"})
    EXPECT_THAT(complaint("rope_scaling", {{"type", type}}), HasSubstr("factor is missing"));
  EXPECT_THAT(complaint("rope_scaling", {{"type", "longrope"}}), HasSubstr("short_factor is missing"));
  EXPECT_THAT(complaint("rope_parameters", {{"rope_type", "longrope"}, {"short_factor", {1, 1}}}),
              HasSubstr("short_factor is not a list of 4 numbers"));
  EXPECT_THAT(
      complaint("rope_scaling", {{"type", "yarn"}, {"factor", 2}, {"beta_fast", 1}, {"beta_slow", 2}}),
      HasSubstr("beta_fast"));
  EXPECT_THAT(complaint("rope_scaling", {{"type", "linear"}}), HasSubstr("factor is missing"));
  EXPECT_THAT(complaint("rope_scaling", {{"rope_type", "llama3"}, {"factor", 8}}),
              HasSubstr("low_freq_factor"));
  EXPECT_THAT(complaint("rope_scaling", 7), HasSubstr("not an object"));
  EXPECT_THAT(complaint("partial_rotary_factor", 0.4), HasSubstr("on 3 of a head's 8 numbers"));
  EXPECT_THAT(complaint("rope_parameters", {{"partial_rotary_factor", 2}}), HasSubstr("16 of a head's 8"));
  EXPECT_THAT(complaint("rope_parameters", {{"full_attention", {{"rope_theta", 1e4}}}}),
              HasSubstr("between kinds of layers"));
}

TEST(ModelConfig, EveryLayerHasItsWindow) {
  json config = small_llama();
  config["architectures"] = {"Qwen2ForCausalLM"};
  config["num_key_value_heads"] = 4;
  config["use_sliding_window"] = true;
  config["sliding_window"] = 8;
  config["layer_types"] = {"sliding_attention", "full_attention"};
  const ModelConfig mixed = parse_model_config(config);
  EXPECT_EQ(layer_config(mixed, 0).sliding_window, 8);
  EXPECT_EQ(layer_config(mixed, 1).sliding_window, 0);
  config["layer_types"] = {"sliding_attention"};
  EXPECT_THAT(complaint(config), HasSubstr("every layer"));
  config["layer_types"] = {"full_attention", "linear_attention"};
  EXPECT_THAT(complaint(config), HasSubstr("linear_attention"));
  config["layer_types"] = {"full_attention", "full_attention"};
  EXPECT_EQ(layer_config(parse_model_config(config), 1).sliding_window, 0);
  config["layer_types"] = {"sliding_attention", "sliding_attention"};
  EXPECT_EQ(layer_config(parse_model_config(config), 0).sliding_window, 8);
}

TEST(ModelConfig, TheEmbeddedModelsAreUnderstood) {
  for (const char* name : {"wiki-opt-3m", "wiki-llama-6m"}) {
    const auto path = std::filesystem::path(KNAPSAQ_SOURCE_DIR) / "assets" / name;
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
    const Checkpoint checkpoint = Checkpoint::open(path);
    EXPECT_NO_THROW(check_shapes(checkpoint, parse_model_config(checkpoint.config())));
  }
}

// config.json of google/gemma-3-4b-it, without what belongs to images: sizes that are Transformers' defaults
// are left out.
TEST(ModelConfig, PublishedMultimodalGemma3) {
  const json text = json::parse(R"({
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
    "boi_token_index": 255999, "eoi_token_index": 256000, "image_token_index": 262144,
    "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
                    "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
                    "sliding_window": 1024},
    "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"}})");
  const ModelConfig config = parse_model_config(text);
  EXPECT_EQ(config.family, "gemma3_text");
  EXPECT_EQ(config.wrapper, "Gemma3ForConditionalGeneration");
  EXPECT_EQ(config.heads, 8);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_EQ(config.head_dim, 256);
  EXPECT_EQ(config.vocab, 262208);
  EXPECT_EQ(config.max_positions, 131072);
  EXPECT_TRUE(config.tied);
  EXPECT_FLOAT_EQ(config.attention_scale, 1.0f / 16);
  EXPECT_EQ(config.attention_softcap, 0);
  EXPECT_EQ(config.logit_softcap, 0);
  ASSERT_EQ(config.ropes.size(), 2u);
  EXPECT_EQ(config.ropes[0].theta, 1e6f);
  EXPECT_EQ(config.ropes[0].scaling.kind, RopeScaling::Kind::linear);
  EXPECT_EQ(config.ropes[0].scaling.factor, 8);
  EXPECT_EQ(config.ropes[1].theta, 1e4f);
  EXPECT_EQ(config.ropes[1].scaling.kind, RopeScaling::Kind::none);
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const LayerConfig layer = layer_config(config, i);
    EXPECT_EQ(layer.sliding_window, i % 6 == 5 ? 0 : 1024) << i;
    EXPECT_EQ(layer.rope, i % 6 == 5 ? 0 : 1) << i;
  }
}

TEST(ModelConfig, GemmaOptions) {
  json gemma = small_llama();
  gemma["architectures"] = {"Gemma2ForCausalLM"};
  gemma["model_type"] = "gemma2";
  ModelConfig config = parse_model_config(gemma);
  EXPECT_EQ(config.attention_softcap, 50);
  EXPECT_EQ(config.logit_softcap, 30);
  EXPECT_EQ(layer_config(config, 0).sliding_window, 4096);
  EXPECT_EQ(layer_config(config, 1).sliding_window, 0);
  gemma["attn_logit_softcapping"] = nullptr;
  gemma["final_logit_softcapping"] = nullptr;
  gemma["sliding_window"] = nullptr;
  config = parse_model_config(gemma);
  EXPECT_EQ(config.attention_softcap, 0);
  EXPECT_EQ(config.logit_softcap, 0);
  EXPECT_EQ(layer_config(config, 0).sliding_window, config.max_positions);
  gemma["use_bidirectional_attention"] = true;
  EXPECT_THAT(complaint(gemma), HasSubstr("use_bidirectional_attention"));
  gemma["use_bidirectional_attention"] = false;
  gemma["query_pre_attn_scalar"] = 0;
  EXPECT_THAT(complaint(gemma), HasSubstr("query_pre_attn_scalar"));
  gemma["architectures"] = {"Gemma3ForCausalLM"};
  gemma["model_type"] = "gemma3_text";
  gemma["query_pre_attn_scalar"] = 256;
  gemma["rope_parameters"] = {{"full_attention", 7}};
  EXPECT_THAT(complaint(gemma), HasSubstr("rope_parameters"));
  gemma.erase("rope_parameters");
  gemma["rope_scaling"] = 3;
  EXPECT_THAT(complaint(gemma), HasSubstr("rope_scaling"));
}

}  // namespace
}  // namespace knapsaq
