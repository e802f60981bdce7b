#include "knapsaq/model/folding.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/random.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"
#include "scratch.h"
#include "test_models.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// Every fold point with scales from 1/4 to 4.
Folding random_folding(const ModelConfig& config) {
  Folding folding(config, "some model", "random");
  Random random(11);
  for (const FoldPoint& point : fold_points(config)) {
    std::vector<float> scales(static_cast<std::size_t>(point.width));
    for (float& s : scales) s = static_cast<float>(std::exp2(4 * random.uniform() - 2));
    folding.set(point.name, scales);
  }
  return folding;
}

/// The model with the folding applied, in F32 or in the types that it has.
void write_folded(const Checkpoint& checkpoint, const Folding& folding, const fs::path& out,
                  bool keep_types = false) {
  std::vector<TensorSpec> specs;
  for (const std::string& name : checkpoint.names()) {
    const TensorView tensor = checkpoint.tensor(name);
    specs.push_back({name, keep_types ? tensor.type : DType::F32, tensor.shape});
  }
  fs::create_directory(out);
  SafetensorsWriter writer(out / "model.safetensors", specs);
  for (const std::string& name : checkpoint.names()) {
    std::vector<float> values = checkpoint.floats(name);
    folding.apply(name, values);
    const DType type = keep_types ? checkpoint.tensor(name).type : DType::F32;
    if (type == DType::F32) {
      writer.write(std::as_bytes(std::span(values)));
      continue;
    }
    std::vector<std::uint16_t> rounded(values.size());
    std::ranges::transform(values, rounded.begin(), type == DType::F16 ? float_to_half : float_to_bfloat16);
    writer.write(std::as_bytes(std::span(rounded)));
  }
  writer.commit();
  write_file(out / "config.json", checkpoint.config().dump());
}

std::vector<float> logits_of(const fs::path& folder, const std::vector<std::int32_t>& tokens) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const auto backend = make_backend({.precision = Precision::fp32});
  Decoder decoder = Decoder::load(checkpoint, parse_model_config(checkpoint.config()), *backend);
  return decoder.logits(tokens, 0);
}

class FoldingOfModel : public ::testing::TestWithParam<fs::path> {};

TEST_P(FoldingOfModel, ChangesNothing) {
  const Checkpoint checkpoint = Checkpoint::open(GetParam());
  const ModelConfig config = parse_model_config(checkpoint.config());
  const auto tokens = nlohmann::json::parse(read_file(GetParam() / "reference.json"))
                          .at("tokens")
                          .get<std::vector<std::int32_t>>();
  const Scratch scratch;
  write_folded(checkpoint, random_folding(config), scratch / "folded");
  const std::vector<float> before = logits_of(GetParam(), tokens);
  const std::vector<float> after = logits_of(scratch / "folded", tokens);
  ASSERT_EQ(before.size(), after.size());
  float worst = 0;
  float size = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    worst = std::max(worst, std::abs(before[i] - after[i]));
    size = std::max(size, std::abs(before[i]));
  }
  EXPECT_LE(worst, 1e-5f * std::max(size, 1.0f));
}

// Folded while it is loaded, it is what it would be if it had been written folded, to the last bit.
TEST_P(FoldingOfModel, WhileLoadingIsThatOfTheWrittenModel) {
  const Checkpoint checkpoint = Checkpoint::open(GetParam());
  const ModelConfig config = parse_model_config(checkpoint.config());
  const auto tokens = nlohmann::json::parse(read_file(GetParam() / "reference.json"))
                          .at("tokens")
                          .get<std::vector<std::int32_t>>();
  const Folding folding = random_folding(config);
  const Scratch scratch;
  write_folded(checkpoint, folding, scratch / "folded", true);
  const auto backend = make_backend({.precision = Precision::fp32});
  Decoder decoder = Decoder::load(checkpoint, config, *backend, folding);
  EXPECT_EQ(decoder.logits(tokens, 0), logits_of(scratch / "folded", tokens));
}

TEST_P(FoldingOfModel, HasEachLinearOnceAndItsOwnWidth) {
  const ModelConfig config = parse_model_config(Checkpoint::open(GetParam()).config());
  std::set<std::string> seen;
  const std::vector<Matrix> all = linears(config);
  for (const FoldPoint& point : fold_points(config)) {
    for (const std::string& name : point.linears) {
      const auto linear = std::ranges::find(all, name, &Matrix::name);
      ASSERT_NE(linear, all.end()) << name;
      EXPECT_EQ(linear->in, point.width);
      EXPECT_EQ(linear->block, point.block);
      EXPECT_TRUE(seen.insert(name).second) << name;
    }
    const auto previous = std::ranges::find(all, point.name, &Matrix::name);
    EXPECT_EQ(previous == all.end(), point.norm) << point.name;
    if (!point.norm) {
      EXPECT_EQ(previous->out, point.width);
    }
  }
}

std::string name_of_case(const ::testing::TestParamInfo<fs::path>& info) {
  std::string name = info.param.filename().string();
  std::ranges::replace(name, '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Models, FoldingOfModel, ::testing::ValuesIn(tiny_models()), name_of_case);

std::vector<std::string> points_of(const std::string& model) {
  std::vector<std::string> names;
  const Checkpoint checkpoint = Checkpoint::open(tiny_model(model));
  for (const FoldPoint& point : fold_points(parse_model_config(checkpoint.config())))
    if (point.block == 0) names.push_back(point.name.substr(point.name.find("layers.0.") + 9));
  return names;
}

TEST(FoldPoints, AreThoseOfTheArchitecture) {
  using ::testing::ElementsAre;
  EXPECT_THAT(points_of("llama2"),
              ElementsAre("input_layernorm", "self_attn.v_proj", "post_attention_layernorm", "mlp.up_proj"));
  EXPECT_THAT(points_of("llama-gqa"),
              ElementsAre("input_layernorm", "post_attention_layernorm", "mlp.up_proj"));
  EXPECT_THAT(points_of("opt"),
              ElementsAre("self_attn_layer_norm", "self_attn.v_proj", "final_layer_norm", "fc1"));
  // GELU is not homogeneous, norms without weights have none to divide, and after a half block a norm makes
  // the residual stream.
  EXPECT_THAT(points_of("opt-gelu"),
              ElementsAre("self_attn_layer_norm", "self_attn.v_proj", "final_layer_norm"));
  EXPECT_THAT(points_of("opt-no-affine"), ElementsAre("self_attn.v_proj", "fc1"));
  EXPECT_THAT(points_of("opt-350m"), ElementsAre("self_attn.v_proj", "fc1"));
}

ModelConfig llama() { return parse_model_config(Checkpoint::open(tiny_model() / "llama2").config()); }

TEST(Folding, ThatIsEmptyTouchesNothing) {
  const Folding folding;
  std::vector<float> values{1, 2, 3};
  EXPECT_FALSE(folding.touches("model.layers.0.input_layernorm.weight"));
  folding.apply("model.layers.0.input_layernorm.weight", values);
  EXPECT_EQ(values, (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(folding.identity(), "");
  EXPECT_THAT(folding.input_scales("model.layers.0.self_attn.q_proj"), IsEmpty());
}

TEST(Folding, ComesBackFromItsFile) {
  const Scratch scratch;
  const ModelConfig config = llama();
  const Folding folding = random_folding(config);
  folding.save(scratch / "folding.safetensors");
  const Folding again = Folding::load(scratch / "folding.safetensors", config, "some model");
  EXPECT_EQ(again.identity(), folding.identity());
  EXPECT_EQ(again.origin(), "random");
  const auto scales = again.input_scales("model.layers.0.mlp.up_proj");
  ASSERT_EQ(scales.size(), static_cast<std::size_t>(config.hidden));
  EXPECT_TRUE(std::ranges::equal(scales, folding.input_scales("model.layers.0.mlp.gate_proj")));

  Folding other = folding;
  std::vector<float> changed(scales.begin(), scales.end());
  changed[1] = std::nextafter(changed[1], 9.0f);
  other.set("model.layers.0.post_attention_layernorm", changed);
  EXPECT_NE(other.identity(), folding.identity());
}

TEST(Folding, RefusesWhatDoesNotBelong) {
  const ModelConfig config = llama();
  Folding folding(config, "some model", "test");
  const auto width = static_cast<std::size_t>(config.hidden);
  EXPECT_THROW(folding.set("model.norm", std::vector<float>(width, 1.0f)), InputError);
  EXPECT_THROW(folding.set("model.layers.0.input_layernorm", std::vector<float>(width - 1, 1.0f)),
               InputError);
  for (const float bad : {0.0f, -1.0f, NAN, INFINITY})
    EXPECT_THROW(folding.set("model.layers.0.input_layernorm", std::vector<float>(width, bad)), InputError);
  folding.set("model.layers.0.input_layernorm", std::vector<float>(width, 2.0f));
  std::vector<float> wrong(width + 1);
  EXPECT_THROW(folding.apply("model.layers.0.self_attn.q_proj.weight", wrong), std::invalid_argument);

  const Scratch scratch;
  const fs::path path = scratch / "folding.safetensors";
  folding.save(path);
  try {
    Folding::load(path, config, "another model");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("another model"));
    EXPECT_THAT(error.what(), HasSubstr("folding.safetensors"));
  }
  std::string bytes = read_file(path);
  write_file(path, bytes.substr(0, bytes.size() - 3));
  EXPECT_THROW(Folding::load(path, config, "some model"), InputError);
  EXPECT_THROW(Folding::load(tiny_model() / "llama2" / "model.safetensors", config, "some model"),
               InputError);
}

}  // namespace
}  // namespace knapsaq
