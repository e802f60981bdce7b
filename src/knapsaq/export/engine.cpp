#include "knapsaq/export/engine.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/export/llama_memory.h"
#include "knapsaq/export/mlx_memory.h"
#include "knapsaq/family/family.h"

namespace knapsaq {
namespace {

bool is_affine(const Scheme& scheme) { return !ggml_type(scheme) && scheme != nf4_scheme(); }

std::string not_affine(const Scheme& scheme) {
  if (!is_affine(scheme)) return "it loads affine schemes, such as b4g64";
  if (scheme.meta_bits != 16) return "nobody but Knapsaq reads quantized metadata (/m..)";
  return "";
}

std::string of_llama_cpp(const Scheme& scheme) {
  return ggml_type(scheme) ? "" : "it loads GGML's types, such as q4_k";
}

std::string of_mlx(const Scheme& scheme) {
  if (std::string reason = not_affine(scheme); !reason.empty()) return reason;
  return scheme.group == 0 ? "it has no groups of whole rows" : "";
}

/// Zero points at 2 and 3 bits need kernels that are rarely installed (Humming), and Transformers loads none.
std::string of_compressed_tensors(const Scheme& scheme) {
  if (std::string reason = not_affine(scheme); !reason.empty()) return reason;
  return scheme.zero == ZeroPoint::symmetric ? ""
                                             : "it loads symmetric schemes, which end in s, such as b4g64s";
}

std::string of_gptqmodel(const Scheme& scheme) {
  if (std::string reason = not_affine(scheme); !reason.empty()) return reason;
  if (scheme.bits == 5 || scheme.bits == 6) return "its container holds 2, 3, 4 and 8 bits";
  return scheme.zero == ZeroPoint::real ? "its zero points are whole numbers: schemes end in z or s" : "";
}

constexpr std::string_view kGgufFormat = "gguf";
constexpr std::string_view kSymmetric =
    "b2g32s,b2g64s,b2g128s,b3g32s,b3g64s,b3g128s,b4g32s,b4g64s,b4g128s,b8g32s,b8g64s,b8g128s";
constexpr std::string_view kWholeZeros =
    "b2g32z,b2g64z,b2g128z,b3g32z,b3g64z,b3g128z,b4g32z,b4g64z,b4g128z,b8g32s,b8g64s,b8g128s";

constexpr std::array kLlamaCaches = {CacheType{"fp16"},           CacheType{"q8_0", 8, 32, 2},
                                     CacheType{"q5_1", 5, 32, 4}, CacheType{"q5_0", 5, 32, 2},
                                     CacheType{"q4_1", 4, 32, 4}, CacheType{"q4_0", 4, 32, 2}};
constexpr std::array kMlxCaches = {CacheType{"fp16"}, CacheType{"q8", 8, 64, 4}, CacheType{"q6", 6, 64, 4},
                                   CacheType{"q4", 4, 64, 4}};
constexpr std::array kVllmCaches = {CacheType{"fp16"}, CacheType{"fp8", 8}};
constexpr std::array kPlainCache = {CacheType{"fp16"}};
constexpr std::string_view kWholePrompt =
    "it computes a prompt in one piece, in as much work space as the prompt's length and the attention that "
    "is "
    "installed ask for";

// vLLM fuses q, k, v and gate, up; a fused matrix has one scheme.
constexpr std::array<Engine, 5> kEngines = {{
    {.name = "llama.cpp",
     .format = kGgufFormat,
     .menu = "gguf",
     .ties = "none",
     .ends = true,
     .inputs_multiple = 32,
     .obstacle = of_llama_cpp,
     .memory = {.caches = kLlamaCaches, .step = kLlamaCells, .work_space = llama_work_space}},
    {.name = "mlx",
     .format = "mlx",
     .menu = "affine",
     .method = "gptq",
     .ties = "none",
     .ends = true,
     .rows_of_groups = true,
     .inputs_multiple = 32,
     .obstacle = of_mlx,
     .memory = {.caches = kMlxCaches, .step = kMlxCells, .work_space = mlx_work_space}},
    {.name = "vllm",
     .format = "compressed-tensors",
     .menu = kSymmetric,
     .method = "gptq",
     .ties = "vllm",
     .rows_of_groups = true,
     .inputs_multiple = 32,
     .obstacle = of_compressed_tensors,
     .memory = {.caches = kVllmCaches,
                .step = 16,
                .why_unknown =
                    "it finds its work space by a trial run on the card, of which it takes nine tenths"}},
    {.name = "transformers",
     .format = "compressed-tensors",
     .menu = kSymmetric,
     .method = "gptq",
     .ties = "none",
     .rows_of_groups = true,
     .inputs_multiple = 32,
     .obstacle = of_compressed_tensors,
     .memory = {.caches = kPlainCache, .why_unknown = kWholePrompt}},
    {.name = "gptqmodel",
     .format = "gptq",
     .menu = kWholeZeros,
     .method = "gptq",
     .ties = "none",
     .rows_of_groups = true,
     .rows_multiple = 32,
     .inputs_multiple = 32,
     .obstacle = of_gptqmodel,
     .memory = {.caches = kPlainCache, .why_unknown = kWholePrompt}},
}};

}  // namespace

std::vector<std::string> engine_names() {
  std::vector<std::string> names;
  names.reserve(kEngines.size());
  for (const Engine& engine : kEngines) names.emplace_back(engine.name);
  return names;
}

const Engine& find_engine(std::string_view name) {
  const auto found = std::ranges::find(kEngines, name, &Engine::name);
  if (found == kEngines.end())
    throw UsageError(fmt::format("there is no engine {}; the engines are {}", in_quotes(name),
                                 fmt::join(engine_names(), ", ")));
  return *found;
}

Menu menu_for(const Engine& engine, Menu menu) {
  for (const Scheme& scheme : menu.schemes)
    if (const std::string reason = engine.obstacle(scheme); !reason.empty())
      throw UsageError(
          fmt::format("--for {}: not with {} in the menu: {}", engine.name, to_string(scheme), reason));
  menu.whole_groups = engine.rows_of_groups;
  return menu;
}

std::string ties_for(const Engine* engine, std::string_view asked, const ModelConfig& config) {
  std::set<std::string> words;
  const auto add = [&](std::string_view list) {
    for (std::size_t begin = 0; begin <= list.size();) {
      const std::size_t end = std::min(list.find(',', begin), list.size());
      words.emplace(list.substr(begin, end - begin));
      begin = end + 1;
    }
  };
  const bool mixture =
      std::ranges::any_of(linears(config), [](const Matrix& one) { return one.expert >= 0; });
  if (!asked.empty()) {
    add(asked);
  } else {
    if (engine != nullptr) add(engine->ties);
    if (mixture) add("experts");
  }
  if (engine != nullptr) {
    const Family& family = family_of(config);
    const auto fused = engine->format == kGgufFormat ? family.gguf.fused : family.published;
    for (const PublishedModule& module : fused == nullptr ? std::vector<PublishedModule>() : fused(config)) {
      std::set<Role> roles;
      for (const PublishedModule::Part& part : module.parts)
        if (const std::optional<Role> role = role_of(part.name)) roles.insert(*role);
      const auto have = [&](Role one, Role other) { return roles.contains(one) && roles.contains(other); };
      if (have(Role::q, Role::k)) add("qkv");
      if (have(Role::q, Role::attention_gate)) add("q-gate");
      if (have(Role::gate, Role::up) || have(Role::expert_gate, Role::expert_up)) add("gate-up");
      if (module.stacked) add("experts");
    }
  }
  words.erase("");
  if (words.size() > 1) words.erase("none");
  return words.empty() ? "none" : fmt::format("{}", fmt::join(words, ","));
}

MatrixSelection selection_for(const Engine& engine, MatrixSelection selection) {
  std::vector<Matrix> loaded;
  for (Matrix& matrix : selection.quantized) {
    const bool loads = (engine.ends || matrix.in_block()) && matrix.out % engine.rows_multiple == 0 &&
                       matrix.in % engine.inputs_multiple == 0;
    if (loads) {
      loaded.push_back(std::move(matrix));
    } else {
      selection.dense.push_back(matrix.name);
    }
  }
  if (loaded.empty())
    throw UsageError(fmt::format("--for {}: it loads none of the model's matrices quantized", engine.name));
  std::ranges::sort(selection.dense);
  selection.quantized = std::move(loaded);
  return selection;
}

}  // namespace knapsaq
