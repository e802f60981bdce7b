#include "knapsaq/checkpoint/checkpoint.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/files.h"
#include "knapsaq/checkpoint/shards.h"
#include "message_of.h"
#include "reference_values.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

std::string complaint(const fs::path& folder) {
  return message_of([&] { static_cast<void>(Checkpoint::open(folder)); });
}

void write_floats(const fs::path& folder, const std::vector<std::string>& names, std::vector<float> values) {
  std::vector<TensorSpec> specs;
  for (const std::string& name : names)
    specs.push_back({name, DType::F32, {static_cast<std::int64_t>(values.size())}});
  CheckpointWriter writer(folder, specs);
  for (std::size_t i = 0; i < names.size(); ++i) writer.write(std::as_bytes(std::span(values)));
  writer.commit();
}

class Sharded : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Checkpoint, Sharded, testing::Values("sharded_safetensors", "sharded_torch"));

TEST_P(Sharded, IsOneModel) {
  const Checkpoint checkpoint = Checkpoint::open(checkpoint_data(GetParam()));
  EXPECT_THAT(checkpoint.names(),
              ElementsAre("model.layers.0.weight", "model.layers.1.weight", "model.layers.2.weight"));
  EXPECT_EQ(checkpoint.tensor_bytes(), 96u);
  EXPECT_EQ(checkpoint.config().at("model_type"), "llama");
  for (int i = 0; i < 3; ++i) {
    std::vector<float> expected = reference_floats(16);
    for (float& value : expected) value += static_cast<float>(i);
    const std::string name = "model.layers." + std::to_string(i) + ".weight";
    EXPECT_EQ(checkpoint.floats(name), expected);
    checkpoint.release(name);
    EXPECT_EQ(checkpoint.floats(name), expected);
  }
}

TEST_P(Sharded, MissingPartsAreNamed) {
  const Scratch scratch;
  const fs::path folder = scratch / "model";
  fs::copy(checkpoint_data(GetParam()), folder);
  const bool torch = GetParam() == std::string_view("sharded_torch");
  const fs::path index = folder / (torch ? "pytorch_model.bin.index.json" : "model.safetensors.index.json");
  const std::string text = read_file(index);

  std::string lie = text;
  lie.replace(lie.find("layers.2"), 8, "layers.9");
  write_file(index, lie);
  EXPECT_THAT(complaint(folder), HasSubstr("tensor 'model.layers.9.weight' is not in the shard"));
  write_file(index, text);

  fs::remove(folder / (torch ? "pytorch_model-00002-of-00002.bin" : "model-00002-of-00002.safetensors"));
  EXPECT_THAT(complaint(folder), HasSubstr("-00002-of-00002."));
  EXPECT_THAT(complaint(folder), HasSubstr("is missing"));
}

TEST(Checkpoint, AWholeTorchFileIsRead) {
  const Scratch scratch;
  fs::copy(checkpoint_data("state.bin"), scratch / "pytorch_model.bin");
  write_file(scratch / "config.json", "{}");
  const Checkpoint checkpoint = Checkpoint::open(scratch.path());
  EXPECT_EQ(checkpoint.floats("weight"), reference_floats(48));
  // A tensor that had to be copied has no pages to let go of.
  const std::vector<float> transposed = checkpoint.floats("transposed");
  checkpoint.release("transposed");
  checkpoint.release("weight");
  EXPECT_EQ(checkpoint.floats("transposed"), transposed);
  EXPECT_EQ(checkpoint.floats("weight"), reference_floats(48));
  // Tied tensors count once: 14 tensors, of which two share their bytes.
  std::uint64_t bytes = 0;
  for (const std::string& name : checkpoint.names())
    if (name != "tied") bytes += checkpoint.tensor(name).bytes.size();
  EXPECT_EQ(checkpoint.tensor_bytes(), bytes);
}

TEST(Checkpoint, SafetensorsWinOverTorch) {
  const Scratch scratch;
  write_file(scratch / "pytorch_model.bin", "not read");
  write_file(scratch / "config.json", "{}");
  write_floats(scratch.path(), {"a"}, {1, 2});
  EXPECT_THAT(Checkpoint::open(scratch.path()).names(), ElementsAre("a"));
}

TEST(Checkpoint, NamesWithoutTheirModelPrefixGetIt) {
  const Scratch scratch;
  write_file(scratch / "config.json", "{}");
  write_floats(scratch.path(),
               {"decoder.layers.0.fc1.weight", "layers.1.mlp.up_proj.weight", "embed_tokens.weight",
                "norm.weight", "lm_head.weight", "model.norm.bias"},
               {1});
  EXPECT_THAT(Checkpoint::open(scratch.path()).names(),
              ElementsAre("lm_head.weight", "model.decoder.layers.0.fc1.weight", "model.embed_tokens.weight",
                          "model.layers.1.mlp.up_proj.weight", "model.norm.bias", "model.norm.weight"));
  write_floats(scratch.path(), {"norm.weight", "model.norm.weight"}, {1});
  EXPECT_THAT(complaint(scratch.path()), HasSubstr("both with and without"));
}

TEST(Checkpoint, WeightsThatAreNotFiniteAreNamed) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    const Scratch scratch;
    write_file(scratch / "config.json", "{}");
    std::vector<float> values(3000, 1.0f);
    values[2500] = bad;
    write_floats(scratch.path(), {"good", "bad"}, values);
    const Checkpoint checkpoint = Checkpoint::open(scratch.path());
    EXPECT_THAT(message_of([&] { static_cast<void>(checkpoint.floats("bad")); }),
                testing::AllOf(HasSubstr("'bad'"), HasSubstr("element 2500")));
  }
}

TEST(Checkpoint, OtherFoldersAreRefused) {
  const Scratch scratch;
  EXPECT_THAT(complaint(scratch / "absent"), HasSubstr("is neither a folder nor a GGUF file"));
  EXPECT_THAT(complaint(scratch.path()), HasSubstr("no config.json"));
  write_file(scratch / "config.json", "{}");
  EXPECT_THAT(complaint(scratch.path()), HasSubstr("neither model.safetensors nor pytorch_model.bin"));
  write_floats(scratch.path(), {"a"}, {1});
  const auto with_config = [&](std::string_view text) {
    write_file(scratch / "config.json", text);
    return complaint(scratch.path());
  };
  EXPECT_THAT(with_config("{"), HasSubstr("config.json: is not valid JSON"));
  EXPECT_THAT(with_config("7"), HasSubstr("not a JSON object"));
  EXPECT_THAT(with_config(R"({"quantization_config":{"quant_method":"gptq","bits":4}})"),
              HasSubstr("has no tensor that ends in .qweight"));
  EXPECT_THAT(with_config(R"({"quantization":[]})"), HasSubstr("quantization is not an object"));
}

TEST(Checkpoint, UnknownTensorsAndLinearsAreNamed) {
  const Scratch scratch;
  write_file(scratch / "config.json",
             R"({"quantization":{"group_size":64,"bits":4,"gone":{"bits":4},"odd":3}})");
  write_floats(scratch.path(), {"a", "odd.weight"}, {1});
  const Checkpoint checkpoint = Checkpoint::open(scratch.path());
  EXPECT_THAT(message_of([&] { static_cast<void>(checkpoint.tensor("b")); }), HasSubstr("no tensor 'b'"));
  EXPECT_THAT(message_of([&] { static_cast<void>(checkpoint.stored("a")); }),
              HasSubstr("'a' is not quantized"));
  EXPECT_THAT(message_of([&] { static_cast<void>(checkpoint.packing("gone")); }),
              HasSubstr("no such linear"));
  EXPECT_THAT(message_of([&] { static_cast<void>(checkpoint.packing("odd")); }),
              HasSubstr("neither an object"));
}

TEST(Checkpoint, TheSchemeForPeopleComesFromTheConfigIfItIsThere) {
  const Scratch scratch;
  fs::copy(checkpoint_data("mlx"), scratch / "model");
  nlohmann::json config = nlohmann::json::parse(read_file(scratch / "model/config.json"));
  config["knapsaq"]["schemes"]["model.layers.0.b3g64"] = "hqq:b3g64";
  write_file(scratch / "model/config.json", config.dump());
  const Checkpoint checkpoint = Checkpoint::open(scratch / "model");
  EXPECT_EQ(checkpoint.packing("model.layers.0.b3g64")->scheme, "hqq:b3g64");
  EXPECT_EQ(checkpoint.packing("model.layers.0.b2g32")->scheme, "b2g32");
}

}  // namespace
}  // namespace knapsaq
