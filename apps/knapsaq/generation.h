#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "arguments.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/config.h"
#include "knapsaq/model/generator.h"
#include "knapsaq/text/tokenizer.h"
#include "runtime_options.h"

namespace knapsaq::command {

/// What generate and chat share: how tokens are drawn, and the model.
struct GenerationFlags {
  RuntimeOptions runtime;
  SamplerOptions sampler;
  std::int64_t max_tokens = 0;
};
/// Adds --max-tokens, --temperature, --top-k, --top-p, --seed and the runtime's options.
void add_generation_options(Verb verb, GenerationFlags& flags, std::int64_t max_tokens);

/// A model that can be talked to. Everything that can be wrong with an input is found before weights are
/// loaded: make the prompt between open and load().
class TextModel {
 public:
  /// Tokenizer and configuration. Throws InputError, UsageError for options without meaning.
  TextModel(const std::string& path, const GenerationFlags& flags);

  const Tokenizer& tokenizer() const { return tokenizer_; }
  const Checkpoint& checkpoint() const { return checkpoint_; }
  const ModelConfig& config() const { return config_; }
  /// Tokens that a text may have, with --context.
  std::int64_t context_limit() const { return context_limit_; }
  GenerationOptions options() const { return options_; }
  /// A token that ends a text besides those of the model's files.
  void add_stop(std::int32_t token) { options_.stop.push_back(token); }

  /// Loads the weights; `context` tokens will be the most. Throws InputError if memory is not enough, before
  /// it takes any.
  void load(std::int64_t context);
  Generator& generator() { return *generator_; }

 private:
  RuntimeOptions runtime_;
  Checkpoint checkpoint_;
  ModelConfig config_;
  Tokenizer tokenizer_;
  std::int64_t context_limit_;
  GenerationOptions options_;
  std::unique_ptr<Backend> backend_;
  std::optional<Decoder> decoder_;
  std::optional<Generator> generator_;
};

/// Tokens per second of a generation's prompt and of the text; none where nothing was measured.
std::optional<double> prompt_speed(const Generated& generated);
std::optional<double> step_speed(const Generated& generated);
/// Both for people, on standard error if it is a terminal.
void show_speed(const Generated& generated);

/// Text to standard output, at once.
void put(const std::string& text);

}  // namespace knapsaq::command
