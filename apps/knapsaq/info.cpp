#include "knapsaq/pipeline/info.h"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

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
  for (const ModelInfo::StoredAs& one : info.matrices) {
    list.push_back(
        {{"name", one.name}, {"role", one.role}, {"shape", {one.out, one.in}}, {"scheme", one.scheme}});
    if (!one.lattice.empty()) list.back()["lattice"] = one.lattice;
  }
  nlohmann::ordered_json kinds = nlohmann::ordered_json::array();
  for (const ModelInfo::LayerKind& kind : info.layer_kinds)
    kinds.push_back({{"what", kind.what}, {"count", kind.count}});
  const auto carried = [](const ModelInfo::Carried& some) {
    return nlohmann::ordered_json{{"tensors", some.tensors}, {"bytes", some.bytes}};
  };
  return {{"architecture", info.architecture},
          {"wrapper", info.wrapper},
          {"parameters", info.parameters},
          {"bytes", info.bytes},
          {"quantized_as",
           info.quantized_as.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(info.quantized_as)},
          {"quantized_bits", info.quantized_as.empty() ? nlohmann::ordered_json()
                                                       : nlohmann::ordered_json(info.quantized_bits)},
          {"layers", info.layers},
          {"layer_kinds", kinds},
          {"hidden", info.hidden},
          {"vocabulary", info.vocabulary},
          {"positions", info.positions},
          {"tied", info.tied},
          {"linear_parameters", linear_weights},
          {"memory", memory_json(info.memory)},
          {"notes", info.notes},
          {"dense", carried(info.dense)},
          {"carried", carried(info.others)},
          {"unread_tensors", info.unread_tensors},
          {"linears", list}};
}

/// Rows of one role.
struct OfRole {
  std::int64_t matrices = 0;
  std::int64_t weights = 0;
  std::set<std::string> shapes;
  std::set<std::string> schemes;
};

void print_roles(const ModelInfo& info, std::int64_t weights) {
  std::vector<std::string> order;
  std::map<std::string, OfRole> roles;
  for (const ModelInfo::StoredAs& one : info.matrices) {
    OfRole& role = roles[one.role];
    if (role.matrices++ == 0) order.push_back(one.role);
    role.weights += one.out * one.in;
    role.shapes.insert(fmt::format("{} x {}", one.out, one.in));
    role.schemes.insert(one.scheme);
  }
  const auto shown = [](const std::set<std::string>& all) {
    return all.size() == 1 ? *all.begin() : fmt::format("{} kinds", all.size());
  };
  for (const std::string& name : order) {
    const OfRole& role = roles[name];
    fmt::print("    {:<22}{:>6}  {:<16}{:5.1f} %  {}\n", name, role.matrices, shown(role.shapes),
               100.0 * static_cast<double>(role.weights) / static_cast<double>(weights), shown(role.schemes));
  }
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
  fmt::print("{}{}\n", info.architecture,
             info.wrapper.empty() ? "" : fmt::format(", the language model of a {}", info.wrapper));
  fmt::print("  {} parameters, {} in tensors\n", info.parameters, format_bytes(info.bytes));
  if (!info.quantized_as.empty())
    fmt::print("  quantized already: {}; {:.2f} bits a weight in its files\n", info.quantized_as,
               info.quantized_bits);
  fmt::print(
      "  {} layers, hidden {}, {} heads ({} for keys and values) of {}, ffn {}, vocabulary {}, {} "
      "positions{}\n",
      info.layers, info.hidden, info.heads, info.kv_heads, info.head_dim, info.ffn, info.vocabulary,
      info.positions, info.tied ? ", tied head" : "");
  for (const ModelInfo::LayerKind& kind : info.layer_kinds)
    fmt::print("  {} {} {}\n", kind.count, kind.count == 1 ? "layer of" : "layers of", kind.what);
  fmt::print("  what can be quantized: {} matrices with {} weights ({} in the linears of the blocks)\n",
             info.matrices.size(), matrix_weights, linear_weights);
  print_roles(info, matrix_weights);
  fmt::print("  what stays dense: {} in {} tensors (norms, biases, routers)\n",
             format_bytes(info.dense.bytes), info.dense.tensors);
  if (info.others.tensors > 0)
    fmt::print("  what is carried as it is: {} in {} tensors\n", format_bytes(info.others.bytes),
               info.others.tensors);
  fmt::print("  stored as\n");
  for (const auto& [storage, weights] : weights_of)
    fmt::print("    {:<20} {:5.1f} %\n", storage,
               100.0 * static_cast<double>(weights) / static_cast<double>(matrix_weights));
  std::map<std::string, std::size_t> lattices;
  for (const ModelInfo::StoredAs& one : info.matrices)
    if (!one.lattice.empty()) ++lattices[one.lattice];
  for (const auto& [lattice, count] : lattices)
    fmt::print("  weights lie on a {} lattice, which that scheme holds without loss: {} of {} matrices\n",
               lattice, count, info.matrices.size());
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
