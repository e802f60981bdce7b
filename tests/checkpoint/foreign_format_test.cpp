// Folders of models that others quantized, in today's and older spelling, and folders without weights.

#include "knapsaq/checkpoint/foreign_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/shards.h"
#include "message_of.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

void write_tensors(const std::filesystem::path& folder, const std::vector<std::string>& names) {
  std::vector<TensorSpec> specs;
  for (const std::string& name : names) specs.push_back({name, DType::F16, {2, 2}});
  CheckpointWriter writer(folder, specs);
  writer.write(std::vector<std::byte>(8 * names.size()));
  writer.commit();
}

std::string refusal(const std::filesystem::path& folder) {
  return message_of([&] { Checkpoint::open(folder); });
}

TEST(ForeignFormat, IsNamedByItsTensors) {
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{"a.qweight", "a.qzeros", "a.scales", "a.g_idx"}, "GPTQ"},
      {{"a.qweight", "a.qzeros", "a.scales"}, "AWQ or GPTQ"},
      {{"a.weight_packed", "a.weight_scale", "a.weight_shape"}, "compressed-tensors"},
      {{"a.weight", "a.weight_scale"}, "compressed-tensors, or another tool in 8 bits"},
      {{"a.weight", "a.weight_scale_inv"}, "FP8"},
      {{"a.weight", "a.SCB"}, "bitsandbytes in 8 bits"},
      {{"a.weight", "a.weight.absmax", "a.weight.quant_map"}, "bitsandbytes in 4 bits"},
      {{"a.W_q"}, "HQQ"}};
  for (const auto& [names, tool] : cases) {
    const Scratch scratch;
    write_file(scratch / "config.json", R"({"model_type": "llama"})");
    write_tensors(scratch.path(), names);
    EXPECT_THAT(refusal(scratch.path()),
                AllOf(HasSubstr(std::string("quantized already, by ") + tool), HasSubstr("full-precision")));
  }
}

TEST(ForeignFormat, IsNamedByOlderConfigs) {
  const std::pair<json, const char*> cases[] = {
      {{{"compression_config", {{"format", "pack-quantized"}}}}, "compressed-tensors (compression_config"},
      {{{"quantization_config", {{"config_groups", json::object()}}}}, "compressed-tensors (config_groups"},
      {{{"quantization_config", {{"load_in_8bit", true}}}}, "bitsandbytes (load_in_8bit"},
      {{{"quantization_config", {{"bits", 4}, {"desc_act", true}}}}, "GPTQ (desc_act"},
      {{{"quantization_config", {{"w_bit", 4}}}}, "AWQ (w_bit"}};
  for (const auto& [config, tool] : cases) EXPECT_THAT(foreign_quantization(config, {}), HasSubstr(tool));
  EXPECT_EQ(foreign_quantization({{"quantization", {{"bits", 4}, {"group_size", 64}}}}, {}), "");
}

TEST(ForeignFormat, FoldersWithoutWeightsSayWhatTheyAre) {
  const std::pair<const char*, const char*> cases[] = {
      {"model-00001-of-00002.safetensors", "their index model.safetensors.index.json"},
      {"pytorch_model-00001-of-00002.bin", "their index pytorch_model.bin.index.json"},
      {"adapter_model.safetensors", "an adapter (LoRA)"},
      {"gptq_model-4bit-128g.safetensors", "as AutoGPTQ named its files"},
      {"tiny.Q4_K_M.gguf", "give the file 'tiny.Q4_K_M.gguf' itself"},
      {"consolidated.00.pth", "own layout"},
      {"tf_model.h5", "TensorFlow"},
      {"weights.safetensors", "rename it"},
      {"README.md", "neither model.safetensors nor pytorch_model.bin"}};
  for (const auto& [file, reason] : cases) {
    const Scratch scratch;
    write_file(scratch / "config.json", "{}");
    write_file(scratch / file, "");
    EXPECT_THAT(refusal(scratch.path()), HasSubstr(reason)) << file;
  }
}

TEST(ForeignFormat, FoldersWithoutConfigSayWhatTheyAre) {
  const std::pair<const char*, const char*> cases[] = {
      {"model_index.json", "is a diffusers pipeline"},
      {"tiny.Q4_K_M.gguf", "give the file 'tiny.Q4_K_M.gguf' itself"},
      {"model.safetensors", "has no config.json"}};
  for (const auto& [file, reason] : cases) {
    const Scratch scratch;
    write_file(scratch / file, "{}");
    EXPECT_THAT(refusal(scratch.path()), HasSubstr(reason)) << file;
  }
  const Scratch scratch;
  write_file(scratch / "adapter_model.safetensors", "");
  write_file(scratch / "adapter_config.json", R"({"base_model_name_or_path": "some/model"})");
  EXPECT_THAT(refusal(scratch.path()), HasSubstr("merge it into its base model 'some/model' first"));
  write_file(scratch / "adapter_config.json", "{");
  EXPECT_THAT(refusal(scratch.path()), HasSubstr("merge it into its base model first"));
}

/// Every file of a model may be one that a download left behind.
TEST(ForeignFormat, FilesThatAreNotWhatTheyShouldBe) {
  const std::pair<std::string, const char*> contents[] = {
      {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"},
      {"<!doctype html><html></html>", "HTML page"},
      {"", "is empty"},
      {std::string(100, '\0'), "all of them zero"},
      {"Entry not found", "server's message"}};
  for (const char* file :
       {"model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "config.json"}) {
    for (const auto& [content, look] : contents) {
      const Scratch scratch;
      write_file(scratch / "config.json", R"({"model_type": "llama"})");
      write_file(scratch / file, content);
      EXPECT_THAT(refusal(scratch.path()), AllOf(HasSubstr((scratch / file).string()), HasSubstr(look)))
          << file;
    }
  }
  for (const auto& [content, look] : contents) {
    const Scratch scratch;
    write_file(scratch / "model.gguf", content);
    EXPECT_THAT(refusal(scratch / "model.gguf"), HasSubstr(look));
  }
  const Scratch scratch;
  write_tensors(scratch.path(), {"a"});
  EXPECT_THAT(refusal(scratch / "model.safetensors"), HasSubstr("give the folder that it lies in"));
}

}  // namespace
}  // namespace knapsaq
