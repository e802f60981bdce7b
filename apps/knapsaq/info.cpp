#include <algorithm>
#include <map>
#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/units.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/stored_tensors.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
};

/// How a linear is stored, for people: "hqq:b3g64/m8g128", or the type of a dense one: "f16".
std::string storage_of(const Checkpoint& checkpoint, const Matrix& linear) {
  if (const auto packing = checkpoint.packing(linear.name)) return packing->scheme;
  std::string name(name_of(checkpoint.spec(linear.name + ".weight").type));
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

void run(const Options& options) {
  start(options.common);
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  const ModelConfig config = model_config(checkpoint);
  check_shapes(checkpoint, config);
  const std::vector<Matrix> all = matrices(config);
  std::map<std::string, std::int64_t> weights_of;
  std::int64_t linear_weights = 0;
  std::int64_t matrix_weights = 0;
  for (const Matrix& matrix : all) {
    weights_of[storage_of(checkpoint, matrix)] += matrix.parameters();
    matrix_weights += matrix.parameters();
    if (matrix.in_block()) linear_weights += matrix.parameters();
  }

  if (options.common.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const Matrix& linear : all)
      list.push_back({{"name", linear.name},
                      {"shape", {linear.out, linear.in}},
                      {"scheme", storage_of(checkpoint, linear)}});
    print({{"architecture", config.architecture},
           {"parameters", parameters(config)},
           {"bytes", checkpoint.tensor_bytes()},
           {"layers", config.layers},
           {"hidden", config.hidden},
           {"vocabulary", config.vocab},
           {"positions", config.max_positions},
           {"tied", config.tied},
           {"linear_parameters", linear_weights},
           {"notes", notes_about(checkpoint, config)},
           {"unread_tensors", unread_tensors(checkpoint, config)},
           {"linears", list}});
    return;
  }
  fmt::print("{}\n", config.architecture);
  fmt::print("  {} parameters, {} in tensors\n", parameters(config), format_bytes(checkpoint.tensor_bytes()));
  fmt::print(
      "  {} layers, hidden {}, {} heads ({} for keys and values) of {}, ffn {}, vocabulary {}, {} "
      "positions{}\n",
      config.layers, config.hidden, config.heads, config.kv_heads, config.head_dim, config.ffn, config.vocab,
      config.max_positions, config.tied ? ", tied head" : "");
  fmt::print("  {} matrices with {} weights ({} in the linears of the blocks), stored as\n", all.size(),
             matrix_weights, linear_weights);
  for (const auto& [storage, weights] : weights_of)
    fmt::print("    {:<20} {:5.1f} %\n", storage,
               100.0 * static_cast<double>(weights) / static_cast<double>(matrix_weights));
}

}  // namespace

void add_info(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("info", "Show what a model is and how its matrices are stored");
  verb.option("model", options->model, "Model folder in Hugging Face layout, quantized or not, or GGUF file")
      .required();
  add_common(verb, options->common);
  verb.example("knapsaq info MODEL --json");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
