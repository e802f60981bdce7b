#include "knapsaq/pipeline/runtime.h"

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {

void check(const RuntimeOptions& options) {
  if (options.activations != "int8" && options.activations != "bf16" && options.activations != "fp32")
    throw UsageError(fmt::format("activations {}: give int8, bf16 or fp32", in_quotes(options.activations)));
  if (options.cache != "fp16" && options.cache != "int8")
    throw UsageError(fmt::format("cache {}: give fp16 or int8", in_quotes(options.cache)));
}

std::unique_ptr<Backend> make_runtime_backend(const RuntimeOptions& options) {
  return make_backend({.precision = options.activations == "fp32" ? Precision::fp32 : Precision::bf16,
                       .packed = options.activations == "int8" ? Packed::int8 : Packed::exact});
}

CacheElement cache_element(const RuntimeOptions& options) {
  return options.cache == "int8" ? CacheElement::int8 : CacheElement::half;
}

SamplerOptions sampler_options(const GenerateOptions& options) {
  return {options.temperature, options.top_k, options.top_p, options.seed};
}

}  // namespace knapsaq
