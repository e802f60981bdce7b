// Rotary frequencies against those of Transformers (tools/make_rotation_references.py).

#include "knapsaq/model/rotation.h"

#include <cmath>
#include <filesystem>
#include <map>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/files.h"

namespace knapsaq {
namespace {

using nlohmann::json;

RopeScaling scaling_of(const json& parameters, std::int64_t max_positions) {
  using Kind = RopeScaling::Kind;
  static const std::map<std::string, Kind> kKinds{
      {"linear", Kind::linear},   {"llama3", Kind::llama3},     {"yarn", Kind::yarn},
      {"dynamic", Kind::dynamic}, {"longrope", Kind::longrope}, {"proportional", Kind::proportional}};
  RopeScaling scaling;
  scaling.kind = kKinds.at(parameters.at("rope_type"));
  scaling.original_max_positions = parameters.value("original_max_position_embeddings", max_positions);
  scaling.factor = parameters.value("factor", 1.0f);
  if (scaling.kind == Kind::longrope && !parameters.contains("factor"))
    scaling.factor = static_cast<float>(max_positions) / static_cast<float>(scaling.original_max_positions);
  scaling.low_freq_factor = parameters.value("low_freq_factor", scaling.low_freq_factor);
  scaling.high_freq_factor = parameters.value("high_freq_factor", scaling.high_freq_factor);
  scaling.attention_factor = parameters.value("attention_factor", scaling.attention_factor);
  scaling.beta_fast = parameters.value("beta_fast", scaling.beta_fast);
  scaling.beta_slow = parameters.value("beta_slow", scaling.beta_slow);
  scaling.mscale = parameters.value("mscale", scaling.mscale);
  scaling.mscale_all_dim = parameters.value("mscale_all_dim", scaling.mscale_all_dim);
  scaling.truncate = parameters.value("truncate", scaling.truncate);
  scaling.short_factor = parameters.value("short_factor", scaling.short_factor);
  scaling.long_factor = parameters.value("long_factor", scaling.long_factor);
  scaling.proportion = parameters.value("partial_rotary_factor", scaling.proportion);
  return scaling;
}

json references() {
  return json::parse(read_file(std::filesystem::path(KNAPSAQ_TEST_DATA) / "model/rotation.json"));
}

TEST(Rotation, FrequenciesAreTransformers) {
  const json all = references();
  for (const json& one : all.at("cases")) {
    SCOPED_TRACE(one.at("name").get<std::string>() + ", text " + one.at("text").dump());
    const RopeScaling scaling = scaling_of(one.at("parameters"), all.at("max_positions"));
    const auto expected = one.at("frequencies").get<std::vector<float>>();
    const std::vector<float> ours =
        rotary_frequencies(scaling, one.at("parameters").at("rope_theta"), all.at("rotated"), one.at("text"));
    ASSERT_EQ(ours.size(), expected.size());
    // Transformers computes powers and sums of two terms in fp32.
    for (std::size_t i = 0; i < ours.size(); ++i) EXPECT_NEAR(ours[i], expected[i], 5e-7f * expected[i]);
    EXPECT_FLOAT_EQ(rotary_attention_factor(scaling), one.at("attention_factor"));
  }
}

TEST(Rotation, TablesHoldTheAttentionFactor) {
  const json all = references();
  for (const json& one : all.at("cases")) {
    SCOPED_TRACE(one.at("name").get<std::string>());
    const RopeScaling scaling = scaling_of(one.at("parameters"), all.at("max_positions"));
    const std::int64_t text = one.at("text");
    const RotationTables tables =
        rotation_tables(scaling, one.at("parameters").at("rope_theta"), all.at("rotated"), 4, text);
    const auto frequencies = one.at("frequencies").get<std::vector<double>>();
    ASSERT_EQ(tables.cosines.size(), 4 * frequencies.size());
    ASSERT_EQ(tables.sines.size(), 4 * frequencies.size());
    const double factor = one.at("attention_factor");
    for (std::size_t i = 0; i < tables.cosines.size(); ++i) {
      const double angle = static_cast<double>(i / frequencies.size()) * frequencies[i % frequencies.size()];
      EXPECT_NEAR(tables.cosines[i], factor * std::cos(angle), 3e-6);
      EXPECT_NEAR(tables.sines[i], factor * std::sin(angle), 3e-6);
    }
  }
}

TEST(Rotation, TextsThatShareTheirTables) {
  const json all = references();
  for (const json& one : all.at("cases")) {
    const RopeScaling scaling = scaling_of(one.at("parameters"), all.at("max_positions"));
    const auto of = [&](std::int64_t text) {
      return rotary_frequencies(scaling, 10000, all.at("rotated"), text);
    };
    for (const std::int64_t a : {1, 256, 257, 512, 513, 2048}) {
      for (const std::int64_t b : {1, 256, 257, 512, 513, 2048})
        EXPECT_EQ(rotation_text(scaling, a) == rotation_text(scaling, b), of(a) == of(b))
            << one.at("name") << ", " << a << " and " << b;
    }
  }
}

}  // namespace
}  // namespace knapsaq
