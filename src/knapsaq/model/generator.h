#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/model/kv_cache.h"
#include "knapsaq/model/sampler.h"

namespace knapsaq {

/// Why a generation ended.
enum class StopReason : std::uint8_t {
  stop,        ///< the model drew a stop token
  length,      ///< GenerationOptions::max_tokens
  context,     ///< the cache is full
  interrupted  ///< by its Cancellation (Ctrl-C)
};
std::string_view name_of(StopReason reason);

struct GenerationOptions {
  SamplerOptions sampler = {};
  std::int64_t max_tokens = 0;          ///< at least 1
  std::vector<std::int32_t> stop = {};  ///< ids that end the text and do not belong to it
  std::int64_t vocabulary =
      0;  ///< only ids below this may be drawn, later rows of the head are padding; 0: all
  std::vector<std::int32_t> unused = {};  ///< ids below it that have no token, and are never drawn
};

struct Generated {
  std::vector<std::int32_t> tokens;  ///< without the stop token
  StopReason reason = StopReason::length;
  std::int64_t reused_tokens = 0;  ///< of the prompt, already in the cache
  std::int64_t prompt_tokens = 0;  ///< of the prompt, computed
  double prompt_seconds = 0;       ///< until the first token was drawn
  std::int64_t steps = 0;          ///< passes of one token after that
  double step_seconds = 0;         ///< the time for these passes and for drawing
};

/// Receives every token as soon as it is drawn.
using TokenSink = std::function<void(std::int32_t)>;

/// Continues sequences of tokens with a decoder, which must outlive it. It keeps what it computed: of a
/// prompt that begins like the previous sequence, only the different part is computed.
class Generator {
 public:
  /// Room for `context` tokens, prompt and text together (see context_limit()).
  Generator(Decoder& decoder, std::int64_t context, CacheElement element);

  /// Throws InputError for ids outside the vocabulary, an empty prompt, and, before any work, for a prompt
  /// that leaves no room for a token; NotFiniteError for logits that are not finite. An interruption is not
  /// an error: the tokens drawn so far are returned.
  Generated generate(std::span<const std::int32_t> prompt, const GenerationOptions& options,
                     const TokenSink& sink = {});

  const KeyValueCache& cache() const { return cache_; }

 private:
  /// Adds these tokens to the cache and computes logits_ after them.
  void feed(std::span<const std::int32_t> tokens);
  /// Adds what the cache lacks of a prompt. Of a model with states, it keeps the lengths from which a later
  /// prompt may differ: before the last token, which the same prompt needs again, and before an answer
  /// begins.
  void feed_prompt(std::span<const std::int32_t> prompt);
  /// generate() from the current cache; an interruption is Cancelled.
  StopReason go_on(std::span<const std::int32_t> prompt, Sampler& sampler, const GenerationOptions& options,
                   const TokenSink& sink, Generated& result);

  Decoder& decoder_;
  KeyValueCache cache_;
  std::vector<std::int32_t> held_;  ///< the tokens in the cache
  std::vector<float> logits_;       ///< [V]
};

/// The maximum number of tokens of a generation: `requested`, or the model's positions if that is 0. Throws
/// UsageError for more than the learned positions; rotary positions have no limit, as in Transformers.
std::int64_t context_limit(const ModelConfig& config, std::int64_t requested);
/// Throws InputError if a prompt of this many tokens leaves no room for one more in `context`.
void check_prompt(std::int64_t tokens, std::int64_t context);

/// The tokens that end a text: the tokenizer's EOS, and eos_token_id of the model's config.json and
/// generation_config.json, which may be lists (chat models name their end-of-turn tokens there). Sorted.
/// Throws InputError for a damaged file.
std::vector<std::int32_t> stop_tokens(const nlohmann::json& config, const std::filesystem::path& folder,
                                      std::optional<std::int32_t> eos);
std::vector<std::int32_t> stop_tokens(const Checkpoint& checkpoint, std::optional<std::int32_t> eos);

}  // namespace knapsaq
