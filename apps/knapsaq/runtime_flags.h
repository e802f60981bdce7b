#pragma once

#include <cstdint>

#include "arguments.h"
#include "knapsaq/pipeline/text_model.h"

namespace knapsaq::command {

/// Adds --activations, --cache and --context.
void add_runtime_flags(Verb verb, RuntimeOptions& options);
/// Adds --max-tokens, --temperature, --top-k, --top-p and --seed.
void add_generate_flags(Verb verb, GenerateOptions& options, std::int64_t max_tokens);

/// Speeds for people, on standard error if it is a terminal.
void show_speed(const GeneratedText& generated);

}  // namespace knapsaq::command
