#pragma once

#include <cstdint>
#include <string>

#include "knapsaq/pipeline/evaluate.h"
#include "knapsaq/pipeline/text_model.h"

namespace knapsaq {

struct BenchOptions {
  RuntimeOptions runtime;
  std::int64_t prompt = 512;    ///< tokens
  std::int64_t generate = 128;  ///< tokens after it
  std::int64_t repeats = 3;     ///< times are medians of so many
};

struct BenchResult {
  std::string backend;  ///< for people: "cpu, avx512_bf16, bf16"
  double load_seconds = 0;
  double prompt_tokens_per_second = 0;
  double generation_tokens_per_second = 0;               ///< from an empty cache
  double generation_after_prompt_tokens_per_second = 0;  ///< behind the prompt
  double first_token_seconds = 0;
  std::uint64_t weight_bytes = 0;    ///< that every token reads
  double dram_bytes_per_second = 0;  ///< what this machine reads
  double bandwidth_fraction = 0;     ///< of that, what generation reached
  ModelMemory memory;
  std::uint64_t cache_bytes = 0;
  std::uint64_t resident_bytes = 0;
  std::uint64_t peak_resident_bytes = 0;
};

/// Measures a model's speed and memory. Throws UsageError, InputError if memory is not enough; Cancelled.
BenchResult bench(Session& session, const BenchOptions& options);

}  // namespace knapsaq
