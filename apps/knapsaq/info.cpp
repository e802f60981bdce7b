#include "knapsaq/pipeline/info.h"

#include <map>
#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/units.h"
#include "knapsaq/export/engine_memory.h"
#include "result_json.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  InfoOptions info;
};

nlohmann::ordered_json json_of(const ModelInfo& info, std::int64_t linear_weights) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const ModelInfo::StoredAs& one : info.matrices)
    list.push_back({{"name", one.name}, {"shape", {one.out, one.in}}, {"scheme", one.scheme}});
  return {{"architecture", info.architecture},
          {"parameters", info.parameters},
          {"bytes", info.bytes},
          {"layers", info.layers},
          {"hidden", info.hidden},
          {"vocabulary", info.vocabulary},
          {"positions", info.positions},
          {"tied", info.tied},
          {"linear_parameters", linear_weights},
          {"memory", memory_json(info.memory)},
          {"notes", info.notes},
          {"unread_tensors", info.unread_tensors},
          {"linears", list}};
}

void run(const Options& options) {
  Environment environment(environment_options(options.common));
  const Session session(environment, options.model);
  const ModelInfo info = knapsaq::info(session, options.info);
  std::map<std::string, std::int64_t> weights_of;
  std::int64_t linear_weights = 0;
  std::int64_t matrix_weights = 0;
  for (const ModelInfo::StoredAs& one : info.matrices) {
    const std::int64_t weights = one.out * one.in;
    weights_of[one.scheme] += weights;
    matrix_weights += weights;
    if (one.in_block) linear_weights += weights;
  }
  if (options.common.json) {
    print(json_of(info, linear_weights));
    return;
  }
  fmt::print("{}\n", info.architecture);
  fmt::print("  {} parameters, {} in tensors\n", info.parameters, format_bytes(info.bytes));
  fmt::print(
      "  {} layers, hidden {}, {} heads ({} for keys and values) of {}, ffn {}, vocabulary {}, {} "
      "positions{}\n",
      info.layers, info.hidden, info.heads, info.kv_heads, info.head_dim, info.ffn, info.vocabulary,
      info.positions, info.tied ? ", tied head" : "");
  fmt::print("  {} matrices with {} weights ({} in the linears of the blocks), stored as\n",
             info.matrices.size(), matrix_weights, linear_weights);
  for (const auto& [storage, weights] : weights_of)
    fmt::print("    {:<20} {:5.1f} %\n", storage,
               100.0 * static_cast<double>(weights) / static_cast<double>(matrix_weights));
  if (!info.memory) return;
  fmt::print("  {}\n", describe(*info.memory));
  if (!info.memory->work_space)
    fmt::print("  besides its work space, which is not known: {}\n",
               engine_memory(options.info.engine).why_unknown);
}

}  // namespace

void add_info(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("info", "Show what a model is and how its matrices are stored");
  verb.option("model", options->model, "Model folder in Hugging Face layout, quantized or not, or GGUF file")
      .required();
  verb.option("--context", options->info.context, "Show what the model takes in memory with so many tokens")
      .range(1);
  verb.option("--cache", options->info.cache,
              "With --context: how keys and values are stored, as fp16 or q8_0")
      .not_empty();
  verb.option("--for", options->info.engine,
              "With --context: in llama.cpp, mlx, vllm, transformers or gptqmodel; default: in Knapsaq")
      .not_empty();
  add_common(verb, options->common);
  verb.example(
      "knapsaq info MODEL --json\n  knapsaq info MODEL.gguf --context 32768 --cache q8_0 --for llama.cpp");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
