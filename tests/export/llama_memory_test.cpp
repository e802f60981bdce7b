// Against what llama.cpp's own log says that it reserves (tools/make_llama_memory_references.py).

#include "knapsaq/export/llama_memory.h"

#include <algorithm>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/export/engine.h"

namespace knapsaq {
namespace {

constexpr double kMebi = 1024 * 1024;
constexpr double kPrinted = 0.0051 * kMebi;  // two digits of MiB are printed

ModelConfig config_of(const nlohmann::json& shape) {
  ModelConfig config;
  const std::string arch = shape["arch"];
  config.architecture = arch == "llama"   ? "LlamaForCausalLM"
                        : arch == "qwen2" ? "Qwen2ForCausalLM"
                                          : "Qwen3ForCausalLM";
  config.family = arch;
  config.qkv_bias = arch == "qwen2";
  config.qk_norm = arch == "qwen3";
  config.hidden = shape["hidden"];
  config.layers = shape["layers"];
  config.heads = shape["heads"];
  config.kv_heads = shape["kv_heads"];
  config.head_dim = shape["head_dim"];
  config.ffn = shape["ffn"];
  config.vocab = shape["vocab"];
  config.max_positions = 32768;
  return config;
}

TEST(LlamaMemory, IsWhatLlamaCppSaysThatItReserves) {
  const nlohmann::json references =
      nlohmann::json::parse(read_file(std::string(KNAPSAQ_TEST_DATA) + "/export/llama_memory.json"));
  ASSERT_GE(references["cases"].size(), 100u);
  for (const nlohmann::json& one : references["cases"]) {
    SCOPED_TRACE(one.dump());
    const ModelConfig config = config_of(references["shapes"][one["shape"].get<std::string>()]);
    const std::int64_t context = one["context"];
    const std::string cache = one["cache"];
    if (one.contains("refused")) {
      EXPECT_THROW(context_memory("llama.cpp", config, context, cache), UsageError);
      continue;
    }
    const ContextMemory memory = context_memory("llama.cpp", config, context, cache);
    EXPECT_NEAR(static_cast<double>(memory.cache), one["kv"].get<double>() * kMebi, kPrinted);
    const double products = static_cast<double>(
        std::min<std::int64_t>(context, 512) *
        std::max({config.hidden, config.heads * config.head_dim, config.ffn}) / 256 * 292);
    EXPECT_NEAR(static_cast<double>(*memory.work_space) - products,
                (one["compute"].get<double>() + one["output"].get<double>()) * kMebi, 2 * kPrinted);
  }
}

}  // namespace
}  // namespace knapsaq
