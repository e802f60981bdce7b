#include "knapsaq/model/expected_tensors.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/checkpoint/shards.h"
#include "knapsaq/model/architecture.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

/// A small Qwen3 whose tensors can be changed before it is written.
class CheckShapes : public testing::Test {
 protected:
  CheckShapes() {
    config_ = {{"architectures", {"Qwen3ForCausalLM"}},
               {"hidden_size", 64},
               {"intermediate_size", 96},
               {"num_hidden_layers", 2},
               {"num_attention_heads", 4},
               {"num_key_value_heads", 2},
               {"head_dim", 16},
               {"vocab_size", 40},
               {"tie_word_embeddings", true}};
    const ModelConfig config = parse_model_config(config_);
    specs_.push_back({"model.embed_tokens.weight", DType::BF16, {40, 64}});
    for (const ExpectedTensor& tensor : dense_tensors(config))
      specs_.push_back({tensor.name, DType::BF16, tensor.shape});
    for (const Matrix& linear : linears(config))
      specs_.push_back({linear.name + ".weight", DType::BF16, {linear.out, linear.in}});
  }

  std::vector<TensorSpec>::iterator find(std::string_view name) {
    return std::ranges::find(specs_, name, &TensorSpec::name);
  }

  void replace(std::string_view name, DType type, std::vector<std::int64_t> shape) {
    find(name)->type = type;
    find(name)->shape = std::move(shape);
  }

  /// Empty if nothing is wrong.
  std::string complaint() const {
    const Scratch scratch;
    write_file(scratch / "config.json", config_.dump());
    CheckpointWriter writer(scratch.path(), specs_);
    for (const TensorSpec& spec : specs_) writer.write(std::vector<std::byte>(spec.bytes()));
    writer.commit();
    const Checkpoint checkpoint = Checkpoint::open(scratch.path());
    try {
      check_shapes(checkpoint, parse_model_config(checkpoint.config()));
    } catch (const InputError& error) {
      return error.what();
    }
    return {};
  }

  void quantize(const std::string& module, const AffineShape& shape) {
    specs_.erase(find(module + ".weight"));
    for (TensorSpec& spec : affine_tensors(module, shape)) specs_.push_back(std::move(spec));
    config_["quantization"][module] = affine_config(shape);
  }

  json config_;
  std::vector<TensorSpec> specs_;
};

TEST_F(CheckShapes, PassesWhatFits) { EXPECT_EQ(complaint(), ""); }

TEST_F(CheckShapes, NamesAMissingTensor) {
  specs_.erase(find("model.layers.1.self_attn.k_norm.weight"));
  EXPECT_THAT(complaint(),
              AllOf(HasSubstr("'model.layers.1.self_attn.k_norm.weight' is missing"), HasSubstr("[16]")));
}

TEST_F(CheckShapes, NamesAMissingLinear) {
  specs_.erase(find("model.layers.1.mlp.up_proj.weight"));
  EXPECT_THAT(complaint(), HasSubstr("'model.layers.1.mlp.up_proj.weight' is missing"));
}

TEST_F(CheckShapes, NamesAWrongShape) {
  replace("model.layers.0.self_attn.k_proj.weight", DType::BF16, {64, 64});
  EXPECT_THAT(complaint(), AllOf(HasSubstr("'model.layers.0.self_attn.k_proj.weight' has the shape [64, 64]"),
                                 HasSubstr("asks for [32, 64]")));
}

TEST_F(CheckShapes, NamesAWrongType) {
  replace("model.norm.weight", DType::I32, {64});
  EXPECT_THAT(complaint(), AllOf(HasSubstr("'model.norm.weight' is of type I32")));
}

TEST_F(CheckShapes, ATiedModelMayHaveEitherOrBoth) {
  specs_.push_back({"lm_head.weight", DType::BF16, {40, 64}});
  EXPECT_EQ(complaint(), "");
  specs_.erase(find("model.embed_tokens.weight"));
  EXPECT_EQ(complaint(), "");
  replace("lm_head.weight", DType::BF16, {41, 64});
  EXPECT_THAT(complaint(), HasSubstr("[41, 64]"));
  specs_.erase(find("lm_head.weight"));
  EXPECT_THAT(complaint(), HasSubstr("'model.embed_tokens.weight' is missing"));
}

TEST_F(CheckShapes, AnUntiedModelNeedsBoth) {
  config_["tie_word_embeddings"] = false;
  EXPECT_THAT(complaint(), AllOf(HasSubstr("'lm_head.weight' is missing"), HasSubstr("tie_word_embeddings")));
  specs_.push_back({"lm_head.weight", DType::BF16, {40, 64}});
  EXPECT_EQ(complaint(), "");
  specs_.erase(find("model.embed_tokens.weight"));
  EXPECT_THAT(complaint(), HasSubstr("'model.embed_tokens.weight' is missing"));
}

TEST_F(CheckShapes, QuantizedLinearsAreCheckedByTheirPacking) {
  quantize("model.layers.0.mlp.down_proj", {64, 96, 3, 32});
  quantize("model.layers.1.mlp.down_proj", {64, 96, 2, 32, 8, 128});
  EXPECT_EQ(complaint(), "");
  replace("model.layers.1.mlp.down_proj.zeros", DType::U8, {64, 4});
  EXPECT_THAT(complaint(), AllOf(HasSubstr("'model.layers.1.mlp.down_proj.zeros' is U8 [64, 4]"),
                                 HasSubstr("b2g32/m8g128 asks for U8 [64, 3]")));
  specs_.erase(find("model.layers.0.mlp.down_proj.biases"));
  EXPECT_THAT(complaint(), HasSubstr("'model.layers.0.mlp.down_proj.biases' is missing"));
}

TEST_F(CheckShapes, AQuantizedLinearOfAnotherShapeIsNamed) {
  quantize("model.layers.0.mlp.down_proj", {96, 64, 4, 32});
  EXPECT_THAT(complaint(), AllOf(HasSubstr("'model.layers.0.mlp.down_proj' has the shape [96, 64]"),
                                 HasSubstr("asks for [64, 96]")));
}

}  // namespace
}  // namespace knapsaq
