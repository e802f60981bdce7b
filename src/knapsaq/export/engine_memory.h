#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "knapsaq/family/config.h"

namespace knapsaq {

/// A type of an engine's cache: how keys and values of the tokens so far are stored, both alike.
struct CacheType {
  std::string_view name;            ///< as people give it: "fp16", "q8_0"
  std::int64_t bits = 16;           ///< of a number
  std::int64_t group = 0;           ///< numbers of a head that share a scale; 0: the whole head
  std::int64_t bytes_of_scale = 0;  ///< and of what else a group has

  /// Of one key or value of one head.
  std::int64_t bytes(std::int64_t head_dim) const {
    return head_dim * bits / 8 + bytes_of_scale * (group == 0 ? 1 : head_dim / group);
  }
};

/// What an engine needs in memory beside the weights.
struct EngineMemory {
  std::span<const CacheType> caches = {};  ///< the first is the engine's default
  std::int64_t step = 1;                   ///< the cache has room for a multiple of so many tokens
  /// Bytes of activations and logits while one sequence of `context` tokens is computed, by the engine's own
  /// defaults. Null where nobody can know it before the engine runs.
  std::uint64_t (*work_space)(const ModelConfig& config, std::int64_t context,
                              const CacheType& cache) = nullptr;
  std::string_view why_unknown = {};  ///< where `work_space` is null: a clause
};

/// Of find_engine(); of Knapsaq itself for an empty name.
const EngineMemory& engine_memory(std::string_view engine);

/// What one sequence takes beside the weights.
struct ContextMemory {
  std::string_view type;    ///< CacheType::name
  std::uint64_t cache = 0;  ///< bytes of keys and values of all layers, full attention in each
  std::optional<std::uint64_t> work_space;  ///< bytes; nothing where it is not known
};

/// `context`: tokens, from 1 on. `cache`: name of a type; empty: the engine's default. Throws UsageError,
/// naming the option, for an unknown engine or type, for heads that the type cannot hold, and for a context
/// beyond the model's positions.
ContextMemory context_memory(std::string_view engine, const ModelConfig& config, std::int64_t context,
                             std::string_view cache);

}  // namespace knapsaq
