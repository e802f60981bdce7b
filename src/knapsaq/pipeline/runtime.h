#pragma once

#include <memory>

#include "knapsaq/compute/backend.h"
#include "knapsaq/model/sampler.h"
#include "knapsaq/pipeline/text_model.h"

namespace knapsaq {

/// Throws UsageError for words that mean nothing.
void check(const RuntimeOptions& options);
/// A backend whose quantized weights stay packed.
std::unique_ptr<Backend> make_runtime_backend(const RuntimeOptions& options);
CacheElement cache_element(const RuntimeOptions& options);
SamplerOptions sampler_options(const GenerateOptions& options);

}  // namespace knapsaq
