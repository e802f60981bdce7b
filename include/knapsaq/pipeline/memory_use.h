#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace knapsaq {

/// What a model takes in an engine's memory for one sequence; in bytes.
struct MemoryUse {
  std::int64_t context = 0;                 ///< tokens that the cache has room for
  std::string cache_type;                   ///< how keys and values are stored: "fp16", "q8_0"
  std::uint64_t weights = 0;                ///< the model's files
  std::uint64_t cache = 0;                  ///< keys and values of all layers
  std::optional<std::uint64_t> work_space;  ///< activations, logits; nothing where the engine's is not known
  std::uint64_t total() const { return weights + cache + work_space.value_or(0); }
};

}  // namespace knapsaq
