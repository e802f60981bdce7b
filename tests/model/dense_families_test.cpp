// What the families of dense models read of config.json beside what the references of Transformers cover:
// defaults, senseless values, and what llama.cpp is told.

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/family/family.h"
#include "knapsaq/model/rotation.h"
#include "message_of.h"

namespace knapsaq {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json small(const std::string& architecture, const json& more = json::object()) {
  json config = {{"architectures", {architecture}},
                 {"hidden_size", 32},
                 {"intermediate_size", 48},
                 {"num_hidden_layers", 8},
                 {"num_attention_heads", 4},
                 {"num_key_value_heads", 2},
                 {"vocab_size", 64},
                 {"max_position_embeddings", 256}};
  config.update(more);
  return config;
}

std::string fault(const json& config) {
  return message_of([&] { parse_model_config(config); });
}

std::string obstacle(const json& config) {
  const ModelConfig parsed = parse_model_config(config);
  return family_of(parsed).gguf.obstacle(parsed);
}

TEST(DenseFamilies, SmolLm3HasPositionsInThreeOfFourLayers) {
  const ModelConfig usual = parse_model_config(small("SmolLM3ForCausalLM"));
  EXPECT_TRUE(usual.tied);
  EXPECT_EQ(usual.rope().theta, 2e6f);
  std::vector<int> ropes;
  for (const LayerConfig& block : usual.blocks) ropes.push_back(block.rope);
  EXPECT_EQ(ropes, (std::vector<int>{0, 0, 0, -1, 0, 0, 0, -1}));
  EXPECT_EQ(obstacle(small("SmolLM3ForCausalLM")), "");
  EXPECT_THAT(obstacle(small("SmolLM3ForCausalLM", {{"no_rope_layer_interval", 2}})),
              HasSubstr("other than every fourth"));
  EXPECT_THAT(obstacle(small("SmolLM3ForCausalLM", {{"mlp_bias", true}})), HasSubstr("biases"));

  const auto with = [](const json& layers) {
    return small("SmolLM3ForCausalLM", {{"no_rope_layers", layers}});
  };
  // Longer lists are cut off, as Transformers does.
  const ModelConfig longer = parse_model_config(with({1, 0, 1, 0, 1, 0, 1, 0, 0, 0}));
  EXPECT_EQ(longer.blocks.size(), 8u);
  EXPECT_EQ(longer.blocks[7].rope, -1);
  EXPECT_EQ(longer.blocks[6].rope, 0);
  EXPECT_THAT(fault(with({1, 1, 1})), HasSubstr("no_rope_layers does not say 0 or 1 for each of 8 layers"));
  EXPECT_THAT(fault(with("all")), HasSubstr("no_rope_layers"));
  EXPECT_THAT(fault(with({1, 1, 1, 2, 1, 1, 1, 0})), HasSubstr("something else than 0 and 1"));
  EXPECT_THAT(fault(with({1, 1, 1, true, 1, 1, 1, 0})), HasSubstr("something else than 0 and 1"));
  EXPECT_THAT(fault(small("SmolLM3ForCausalLM", {{"no_rope_layer_interval", 0}})),
              HasSubstr("no_rope_layer_interval"));

  // The layers without positions have the window.
  const ModelConfig window =
      parse_model_config(small("SmolLM3ForCausalLM", {{"use_sliding_window", true}, {"sliding_window", 7}}));
  EXPECT_EQ(window.blocks[2].sliding_window, 0);
  EXPECT_EQ(window.blocks[3].sliding_window, 7);
}

TEST(DenseFamilies, Olmo3HasWindowsInThreeOfFourLayers) {
  const ModelConfig usual = parse_model_config(small("Olmo3ForCausalLM"));
  EXPECT_EQ(usual.blocks[2].sliding_window, 4096);
  EXPECT_EQ(usual.blocks[3].sliding_window, 0);
  const ModelConfig none = parse_model_config(small("Olmo3ForCausalLM", {{"sliding_window", nullptr}}));
  EXPECT_EQ(none.blocks[2].sliding_window, 0);

  const json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}};
  const ModelConfig extended =
      parse_model_config(small("Olmo3ForCausalLM", {{"rope_scaling", yarn}, {"rope_theta", 1e5}}));
  const auto rope_of = [&](std::size_t block) {
    return extended.ropes.at(static_cast<std::size_t>(extended.blocks.at(block).rope));
  };
  EXPECT_EQ(rope_of(3).scaling.kind, RopeScaling::Kind::yarn);
  EXPECT_EQ(rope_of(2).scaling.kind, RopeScaling::Kind::none);
  EXPECT_EQ(rope_of(2).theta, 1e5f);
  EXPECT_EQ(obstacle(small("Olmo3ForCausalLM")), "");
  EXPECT_THAT(obstacle(small("Olmo2ForCausalLM", {{"tie_word_embeddings", true}})),
              HasSubstr("whose head is the embedding"));
  EXPECT_THAT(fault(small("Olmo3ForCausalLM", {{"layer_types", {"full_attention"}}})),
              HasSubstr("a type for every layer"));
}

TEST(DenseFamilies, GraniteMultiplies) {
  const ModelConfig config = parse_model_config(
      small("GraniteForCausalLM",
            {{"embedding_multiplier", 12}, {"logits_scaling", 8}, {"residual_multiplier", 0.22}}));
  EXPECT_EQ(config.embedding_scale, 12);
  EXPECT_EQ(config.logit_scale, 0.125f);
  EXPECT_EQ(config.residual_scale, 0.22f);
  EXPECT_EQ(config.attention_scale, 1) << "Transformers' default, not the usual scale";
  EXPECT_THAT(fault(small("GraniteForCausalLM", {{"logits_scaling", 0}})), HasSubstr("logits_scaling"));
}

TEST(DenseFamilies, Phi3RotatesAPart) {
  const ModelConfig config = parse_model_config(
      small("Phi3ForCausalLM", {{"partial_rotary_factor", 0.75}, {"sliding_window", nullptr}}));
  EXPECT_EQ(config.rope().rotated, 6);
  EXPECT_EQ(config.sliding_window, 0);
  EXPECT_THAT(fault(small("Phi3ForCausalLM", {{"partial_rotary_factor", 0.4}})), HasSubstr("need pairs"));
  const json factors = {{"type", "longrope"}, {"short_factor", {1, 1, 1}}, {"long_factor", {1, 1, 1}}};
  EXPECT_THAT(fault(small("Phi3ForCausalLM", {{"rope_scaling", factors}})),
              HasSubstr("short_factor is not a list of 4 numbers"));
}

TEST(DenseFamilies, GptNeoXTakesHeadsApart) {
  json config = small("GPTNeoXForCausalLM", {{"rotary_pct", 0.25}});
  config.erase("num_key_value_heads");
  const ModelConfig parsed = parse_model_config(config);
  EXPECT_TRUE(parsed.parallel);
  EXPECT_EQ(parsed.rope().rotated, 2);
  const std::vector<PublishedModule> modules = family_of(parsed).published(parsed);
  const auto found =
      std::ranges::find(modules, "gpt_neox.layers.7.attention.query_key_value", &PublishedModule::name);
  ASSERT_NE(found, modules.end());
  ASSERT_EQ(found->parts.size(), 3u);
  EXPECT_EQ(found->parts[1].name, "model.layers.7.self_attn.k_proj");
  EXPECT_EQ(found->parts[1].rows.first, 8);
  EXPECT_EQ(found->parts[1].rows.stride, 24);
  EXPECT_EQ(found->parts[1].rows.rows(), 32);
  config["use_parallel_residual"] = "yes";
  EXPECT_THAT(fault(config), HasSubstr("use_parallel_residual"));
}

TEST(DenseFamilies, Ministral3ScalesQueries) {
  const json rope = {{"rope_type", "yarn"},
                     {"rope_theta", 1e6},
                     {"factor", 16.0},
                     {"original_max_position_embeddings", 100},
                     {"mscale", 1.0},
                     {"mscale_all_dim", 1.0},
                     {"llama_4_scaling_beta", 0.1}};
  const ModelConfig config = parse_model_config(small("Ministral3ForCausalLM", {{"rope_parameters", rope}}));
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.query_scaling.length, 100);
  const std::vector<float> scales = query_scales(config.query_scaling, 301);
  EXPECT_EQ(scales[99], 1);
  EXPECT_FLOAT_EQ(scales[100], 1 + 0.1f * std::log(2.0f));
  EXPECT_FLOAT_EQ(scales[300], 1 + 0.1f * std::log(4.0f));
  EXPECT_THAT(fault(small("Ministral3ForCausalLM")), HasSubstr("rope_parameters is missing"));
  json without = rope;
  without.erase("llama_4_scaling_beta");
  EXPECT_THAT(fault(small("Ministral3ForCausalLM", {{"rope_parameters", without}})),
              HasSubstr("llama_4_scaling_beta is missing"));
}

TEST(DenseFamilies, MinistralMixesWindows) {
  const json types = {"full_attention", "sliding_attention", "sliding_attention", "sliding_attention",
                      "full_attention", "sliding_attention", "sliding_attention", "sliding_attention"};
  const ModelConfig config =
      parse_model_config(small("MinistralForCausalLM", {{"layer_types", types}, {"sliding_window", 16}}));
  EXPECT_EQ(layer_config(config, 0).sliding_window, 0);
  EXPECT_EQ(layer_config(config, 1).sliding_window, 16);
  EXPECT_EQ(layer_config(parse_model_config(small("MinistralForCausalLM")), 0).sliding_window, 4096);
}

}  // namespace
}  // namespace knapsaq
