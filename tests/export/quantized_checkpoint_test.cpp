#include "knapsaq/export/quantized_checkpoint.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/random.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/quant/quantizer.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// A random Llama of two blocks whose rows are no multiple of most groups.
nlohmann::json small_config() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", 80},
          {"intermediate_size", 144},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"vocab_size", 50},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},
          {"tie_word_embeddings", true}};
}

class QuantizedCheckpoint : public ::testing::Test {
 protected:
  void SetUp() override { write_model({}); }

  /// `poison`: a tensor whose last weight is infinite.
  void write_model(const std::string& poison) {
    const fs::path folder = scratch_ / "model";
    fs::create_directories(folder);
    write_file(folder / "config.json", small_config().dump());
    write_file(folder / "tokenizer.json", "{}");
    const ModelConfig config = parse_model_config(small_config());
    std::vector<TensorSpec> specs;
    for (const ExpectedTensor& tensor : dense_tensors(config))
      specs.push_back({tensor.name, DType::F16, tensor.shape});
    for (const Matrix& linear : linears(config))
      specs.push_back({linear.name + ".weight", DType::F16, {linear.out, linear.in}});
    specs.push_back({"model.embed_tokens.weight", DType::F16, {50, 80}});
    specs.push_back({"lm_head.weight", DType::F16, {50, 80}});  // a second copy of a tied head
    specs.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", DType::F16, {10}});
    SafetensorsWriter writer(folder / "model.safetensors", specs);
    Random random(1);
    std::vector<std::uint16_t> values;
    for (const TensorSpec& spec : specs) {
      if (spec.name != "lm_head.weight") {  // which follows the embedding
        values.resize(spec.bytes() / 2);
        for (std::uint16_t& value : values) value = float_to_half(static_cast<float>(0.02 * random.normal()));
      }
      if (spec.name == poison) values.back() = float_to_half(std::numeric_limits<float>::infinity());
      writer.write(std::as_bytes(std::span(values)));
    }
    writer.commit();
  }

  Checkpoint model() const { return Checkpoint::open(scratch_ / "model"); }
  std::size_t entries() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(scratch_.path()), fs::directory_iterator()));
  }

  const ModelConfig config_ = parse_model_config(small_config());
  Scratch scratch_;
};

std::vector<MatrixScheme> mixed(std::span<const Matrix> matrices) {
  const std::vector<Scheme> menu =
      parse_menu("hqq:b2g32/m8g128,rtn:b3g64,hqq:b4g128/m8g128,rtn:b8g32s,hqq:b3row").schemes;
  std::vector<MatrixScheme> allocation;
  for (std::size_t i = 0; i < matrices.size(); ++i)
    allocation.push_back({matrices[i], menu[i % menu.size()]});
  return allocation;
}

TEST_F(QuantizedCheckpoint, ReadsBackAsWhatTheQuantizersMade) {
  const Checkpoint source = model();
  const std::vector<Matrix> all = linears(config_);
  const std::vector<MatrixScheme> schemes = mixed(all);
  const QuantizedModel written = write_quantized(source, config_, schemes, scratch_ / "out", false);

  const Checkpoint read = Checkpoint::open(scratch_ / "out");
  EXPECT_NO_THROW(check_shapes(read, parse_model_config(read.config())));
  EXPECT_TRUE(fs::exists(scratch_ / "out" / "tokenizer.json"));
  double error = 0;
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::vector<float> values = read_floats(source.tensor(all[i].name + ".weight"));
    const MatrixView weights{all[i].out, all[i].in, values};
    const PackedMatrix expected = std::get<PackedMatrix>(quantize(weights, schemes[i].scheme));
    const PackedMatrix packed = std::get<PackedMatrix>(read.stored(all[i].name));
    EXPECT_EQ(packed.codes, expected.codes) << all[i].name;
    EXPECT_EQ(packed.scales, expected.scales);
    EXPECT_EQ(packed.biases, expected.biases);
    EXPECT_EQ(packed.scale_codes, expected.scale_codes);
    EXPECT_EQ(packed.zero_codes, expected.zero_codes);
    EXPECT_EQ(packed.scale_steps, expected.scale_steps);
    EXPECT_EQ(packed.scale_mins, expected.scale_mins);
    EXPECT_EQ(packed.group, expected.group);
    error += frobenius_error(weights, packed);
    bytes += storage_bytes(schemes[i].scheme, all[i].out, all[i].in);
  }
  EXPECT_DOUBLE_EQ(written.error, error);
  EXPECT_EQ(written.bytes, fs::file_size(scratch_ / "out" / "model.safetensors"));
  EXPECT_EQ(layout_quantized(source, config_, schemes).quantized_bytes, bytes);
  // The second copy of the head and the rotary buffer are not part of the model.
  EXPECT_FALSE(read.contains("lm_head.weight"));
  EXPECT_FALSE(read.contains("model.layers.0.self_attn.rotary_emb.inv_freq"));
  const TensorView embedding = read.tensor("model.embed_tokens.weight");
  EXPECT_TRUE(std::ranges::equal(embedding.bytes, source.tensor("model.embed_tokens.weight").bytes));
}

TEST_F(QuantizedCheckpoint, ShardsHoldTheSameModel) {
  const Checkpoint source = model();
  const std::vector<MatrixScheme> schemes = mixed(linears(config_));
  const std::uint64_t shard_bytes = 20000;
  const QuantizedLayout layout = layout_quantized(source, config_, schemes, {.shard_bytes = shard_bytes});
  const QuantizedModel written = write_quantized(source, config_, schemes, scratch_ / "shards", false,
                                                 Progress::none(), {.shard_bytes = shard_bytes});
  write_quantized(source, config_, schemes, scratch_ / "whole", false);
  std::uint64_t bytes = 0;
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(scratch_ / "shards")) {
    if (!entry.path().filename().string().starts_with("model")) continue;
    bytes += entry.file_size();
    ++files;
  }
  EXPECT_GT(files, 4u);
  EXPECT_EQ(written.bytes, bytes);
  EXPECT_EQ(layout.bytes, bytes);

  const Checkpoint shards = Checkpoint::open(scratch_ / "shards");
  const Checkpoint whole = Checkpoint::open(scratch_ / "whole");
  ASSERT_EQ(shards.names(), whole.names());
  for (const std::string& name : shards.names())
    EXPECT_TRUE(std::ranges::equal(shards.tensor(name).bytes, whole.tensor(name).bytes)) << name;
}

TEST_F(QuantizedCheckpoint, ConfigHasAnMlxEntryForEveryLinear) {
  const std::vector<Matrix> all = linears(config_);
  write_quantized(model(), config_, mixed(all), scratch_ / "out", false);
  const nlohmann::json config = nlohmann::json::parse(read_file(scratch_ / "out" / "config.json"));
  EXPECT_EQ(config["quantization"], config["quantization_config"]);
  EXPECT_EQ(config["quantization"]["mode"], "affine");
  for (const Matrix& linear : all) EXPECT_TRUE(config["quantization"].contains(linear.name)) << linear.name;
  EXPECT_EQ(config["quantization"][all[1].name]["bits"], 3);
  EXPECT_EQ(config["quantization"][all[1].name]["group_size"], 64);
  EXPECT_FALSE(config["quantization"][all[1].name].contains("meta_bits"));
  EXPECT_EQ(config["quantization"][all[0].name]["meta_bits"], 8);
  EXPECT_EQ(Checkpoint::open(scratch_ / "out").packing(all[0].name)->scheme, "hqq:b2g32/m8g128");
}

TEST_F(QuantizedCheckpoint, NamesWeightsThatAreNotFiniteAndLeavesNothing) {
  for (const std::string poison :
       {"model.layers.1.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight"}) {
    write_model(poison);
    try {
      write_quantized(model(), config_, mixed(linears(config_)), scratch_ / "out", false);
      FAIL() << poison;
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr(poison));
    }
    EXPECT_EQ(entries(), 1u);
  }
}

TEST_F(QuantizedCheckpoint, RefusesToQuantizeTwice) {
  const std::vector<MatrixScheme> schemes = mixed(linears(config_));
  write_quantized(model(), config_, schemes, scratch_ / "out", false);
  EXPECT_THROW(layout_quantized(Checkpoint::open(scratch_ / "out"), config_, schemes), InputError);
  EXPECT_THROW(write_quantized(model(), config_, schemes, scratch_ / "out", false), UsageError);
}

}  // namespace
}  // namespace knapsaq
