#include "knapsaq/export/engine_memory.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/export/engine.h"

namespace knapsaq {
namespace {

/// Activations of a batch, the largest that Decoder::next() keeps, in bf16 with the residual stream in fp32;
/// the input of a product as int8; rotations of all positions; logits of one token.
std::uint64_t of_knapsaq(const ModelConfig& config, std::int64_t context, const CacheType& /*cache*/) {
  const std::int64_t batch =
      make_backend({.precision = Precision::bf16, .packed = Packed::int8})->batch_rows();
  const std::int64_t rows = std::min(context, batch);
  const std::int64_t queries = config.heads * config.head_dim;
  const std::int64_t keys = config.kv_heads * config.head_dim;
  const std::int64_t widest = std::max({config.hidden, queries, config.ffn});
  const std::int64_t of_row =
      4 * config.hidden + 2 * (config.hidden + 2 * queries + 2 * keys + config.ffn) + 2 * widest;
  const std::int64_t rotations =
      config.positions == Positions::rotary ? context * config.head_dim * std::int64_t{sizeof(float)} : 0;
  return static_cast<std::uint64_t>(rows * of_row + rotations + config.vocab * std::int64_t{sizeof(float)});
}

constexpr std::array kOwnCaches = {CacheType{"fp16"},
                                   CacheType{.name = "int8", .bits = 8, .bytes_of_scale = sizeof(float)}};
constexpr EngineMemory kOwn{.caches = kOwnCaches, .work_space = of_knapsaq};

const CacheType& find_cache(const EngineMemory& memory, std::string_view engine, std::string_view name) {
  if (name.empty()) return memory.caches.front();
  const auto found = std::ranges::find(memory.caches, name, &CacheType::name);
  if (found != memory.caches.end()) return *found;
  std::vector<std::string_view> names;
  for (const CacheType& type : memory.caches) names.push_back(type.name);
  throw UsageError(fmt::format("--cache {}: {} has no such cache; give {}", in_quotes(name), engine,
                               fmt::join(names, ", ")));
}

/// 2^62 if the true one is larger: more than there is, and sums with it are still numbers.
constexpr std::uint64_t kMost = std::uint64_t{1} << 62;
std::uint64_t product(std::initializer_list<std::int64_t> factors) {
  std::uint64_t result = 1;
  for (const std::int64_t factor : factors)
    if (__builtin_mul_overflow(result, static_cast<std::uint64_t>(factor), &result) || result > kMost)
      return kMost;
  return result;
}

std::int64_t layers_with_attention(const ModelConfig& config) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < config.layers; ++i) count += layer_config(config, i).is_attention() ? 1 : 0;
  return count;
}

/// What layers without attention keep, whatever the context is: all engines have it in fp32.
std::uint64_t of_states(const ModelConfig& config) {
  std::uint64_t bytes = 0;
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const Recurrence state = layer_config(config, i).recurrence;
    if (state.taps == 0) continue;
    bytes += product({sizeof(float), state.taps - 1, state.channels});
    bytes += product({sizeof(float), state.value_width(), state.key_dim});
  }
  return bytes;
}

}  // namespace

const EngineMemory& engine_memory(std::string_view engine) {
  return engine.empty() ? kOwn : find_engine(engine).memory;
}

ContextMemory context_memory(std::string_view engine, const ModelConfig& config, std::int64_t context,
                             std::string_view cache) {
  const EngineMemory& memory = engine_memory(engine);
  const std::string_view who = engine.empty() ? "Knapsaq" : engine;
  const CacheType& type = find_cache(memory, who, cache);
  if (context < 1) throw UsageError(fmt::format("--context {}: give a number of tokens from 1 on", context));
  if (context > config.max_positions)
    throw UsageError(
        fmt::format("--context {}: the model was made for at most {} tokens", context, config.max_positions));
  if (type.group > 0 && config.head_dim % type.group != 0)
    throw UsageError(
        fmt::format("--cache {}: {} stores it in groups of {} numbers, and the model's heads have {}",
                    type.name, who, type.group, config.head_dim));
  const std::int64_t cells = (context + memory.step - 1) / memory.step * memory.step;
  ContextMemory result{.type = type.name,
                       .cache = product({2, layers_with_attention(config), config.kv_heads,
                                         type.bytes(config.head_dim), cells}) +
                                of_states(config),
                       .work_space = {}};
  if (memory.work_space != nullptr) result.work_space = memory.work_space(config, context, type);
  return result;
}

}  // namespace knapsaq
