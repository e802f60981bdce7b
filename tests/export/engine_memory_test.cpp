#include "knapsaq/export/engine_memory.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/export/engine.h"

namespace knapsaq {
namespace {

using ::testing::HasSubstr;

ModelConfig made_config() {
  ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.family = "llama";
  config.hidden = 512;
  config.layers = 3;
  config.heads = 8;
  config.kv_heads = 2;
  config.head_dim = 64;
  config.ffn = 1024;
  config.vocab = 1000;
  config.max_positions = 4096;
  return config;
}

/// Keys and values of one token in all layers.
constexpr std::uint64_t kNumbers = 2 * 3 * 2 * 64;

std::string refused(const std::string& engine, const ModelConfig& config, std::int64_t context,
                    const std::string& cache) {
  try {
    context_memory(engine, config, context, cache);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(EngineMemory, CachesHaveTheBytesOfTheirTypes) {
  const ModelConfig config = made_config();
  const auto cache = [&](const std::string& engine, std::int64_t context, const std::string& type) {
    return context_memory(engine, config, context, type).cache;
  };
  EXPECT_EQ(cache("", 1000, ""), kNumbers * 1000 * 2);
  EXPECT_EQ(cache("", 1000, "int8"), kNumbers / 64 * 1000 * (64 + 4));
  EXPECT_EQ(cache("llama.cpp", 1000, ""), kNumbers * 1024 * 2);
  EXPECT_EQ(cache("llama.cpp", 1000, "q8_0"), kNumbers / 32 * 1024 * 34);
  EXPECT_EQ(cache("llama.cpp", 1024, "q4_0"), kNumbers / 32 * 1024 * 18);
  EXPECT_EQ(cache("mlx", 257, "fp16"), kNumbers * 512 * 2);
  EXPECT_EQ(cache("mlx", 257, "q8"), kNumbers / 64 * 512 * 68);
  EXPECT_EQ(cache("vllm", 17, ""), kNumbers * 32 * 2);
  EXPECT_EQ(cache("vllm", 17, "fp8"), kNumbers * 32);
  EXPECT_EQ(cache("transformers", 17, "fp16"), kNumbers * 17 * 2);
  EXPECT_EQ(cache("gptqmodel", 17, "fp16"), kNumbers * 17 * 2);
}

TEST(EngineMemory, TheDefaultTypeIsNamed) {
  for (const std::string engine : {"", "llama.cpp", "mlx", "vllm", "transformers", "gptqmodel"})
    EXPECT_EQ(context_memory(engine, made_config(), 1, "").type, "fp16") << engine;
}

TEST(EngineMemory, WorkSpaceIsKnownOrThereIsAReason) {
  for (const std::string& engine : engine_names()) {
    const EngineMemory& memory = engine_memory(engine);
    EXPECT_EQ(memory.work_space == nullptr, !memory.why_unknown.empty()) << engine;
    EXPECT_EQ(context_memory(engine, made_config(), 100, "").work_space.has_value(),
              memory.work_space != nullptr)
        << engine;
  }
  EXPECT_GT(context_memory("", made_config(), 100, "").work_space.value(), 100u * 4 * 512);
}

TEST(EngineMemory, SaysWhatItRefuses) {
  const ModelConfig config = made_config();
  EXPECT_THAT(refused("llama.cpp", config, 4097, ""),
              HasSubstr("--context 4097: the model was made for at most 4096"));
  EXPECT_THAT(refused("llama.cpp", config, 0, ""), HasSubstr("from 1 on"));
  EXPECT_THAT(refused("llama.cpp", config, -5, ""), HasSubstr("from 1 on"));
  EXPECT_THAT(refused("llama.cpp", config, 100, "int8"), HasSubstr("give fp16, q8_0"));
  EXPECT_THAT(refused("", config, 100, "q8_0"), HasSubstr("Knapsaq has no such cache; give fp16, int8"));
  EXPECT_THAT(refused("transformers", config, 100, "q8_0"), HasSubstr("give fp16"));
  EXPECT_THAT(refused("ollama", config, 100, ""), HasSubstr("there is no engine"));
  ModelConfig narrow = made_config();
  narrow.head_dim = 80;
  EXPECT_THAT(refused("llama.cpp", narrow, 100, "q8_0"),
              HasSubstr("groups of 32 numbers, and the model's heads have 80"));
}

TEST(EngineMemory, ArchitecturesThatAnEngineLacksHaveNoMemoryThere) {
  ModelConfig config = made_config();
  config.architecture = "OPTForCausalLM";
  config.family = "opt";
  config.positions = Positions::learned;
  EXPECT_THROW(context_memory("llama.cpp", config, 100, ""), InputError);
  EXPECT_THROW(context_memory("mlx", config, 100, ""), InputError);
  EXPECT_GT(context_memory("", config, 100, "").cache, 0u);
}

TEST(EngineMemory, SizesBeyondAllMemoryDoNotWrapAround) {
  ModelConfig config = made_config();
  config.layers = config.kv_heads = 1 << 20;
  config.max_positions = std::int64_t{1} << 30;
  EXPECT_EQ(context_memory("transformers", config, config.max_positions, "").cache, std::uint64_t{1} << 62);
}

}  // namespace
}  // namespace knapsaq
