#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "arguments.h"
#include "knapsaq/compute/backend.h"

namespace knapsaq::command {

/// How generate, chat and bench run a model.
struct RuntimeOptions {
  std::string activations = "int8";  ///< int8, bf16 or fp32: what packed weights are multiplied by
  std::string cache = "fp16";        ///< fp16 or int8: keys and values
  std::int64_t context = 0;          ///< tokens that the cache has room for; 0: what is needed
};

/// Adds --activations, --cache and --context.
void add_runtime_options(Verb verb, RuntimeOptions& options);
/// A backend whose quantized weights stay packed.
std::unique_ptr<Backend> make_runtime_backend(const RuntimeOptions& options);
CacheElement cache_element(const RuntimeOptions& options);

}  // namespace knapsaq::command
