#include "knapsaq/family/families.h"
#include "knapsaq/family/gemma.h"
#include "knapsaq/family/rope.h"

namespace knapsaq {
namespace {

/// Layers with and without a window take turns.
constexpr std::int64_t kPeriod = 2;

void read(const Fields& fields, ModelConfig& config) {
  config.ropes = {read_rope(fields, config, config.head_dim)};
  read_gemma(fields, {.period = kPeriod, .attention_softcap = 50, .logit_softcap = 30}, config);
}

std::string obstacle(const ModelConfig& config) {
  if (!config.tied) return "Gemma 2 with an output head of its own";
  return gemma_obstacle(config);
}

void write(const ModelConfig& config, nlohmann::ordered_json& keys) {
  write_gemma_keys(config, kPeriod, keys);
}

void read_keys(const nlohmann::json& keys, nlohmann::json& config) {
  read_gemma_keys(keys, kPeriod, config);
  // llama.cpp's default where a file has no window.
  if (!config.contains("sliding_window")) config["sliding_window"] = 4096;
}

}  // namespace

const Family kGemma2 = {.model_type = "gemma2",
                        .architecture = "Gemma2ForCausalLM",
                        .defaults = {.tied = true, .kv_heads = 4, .head_dim = 256, .max_positions = 8192},
                        .read = read,
                        .gguf = {.architecture = "gemma2",
                                 .names = kGemmaNames,
                                 .obstacle = obstacle,
                                 .windows = true,
                                 .write = write,
                                 .read = read_keys}};

}  // namespace knapsaq
