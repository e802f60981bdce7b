#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/base/progress.h"
#include "knapsaq/calib/samples.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {

/// What a text of the model's own is for. Each use has random numbers of its own, so that what a search is
/// judged with was neither searched on nor calibrated on.
enum class SelfTextUse : std::uint8_t { calibration, search, heldout, tuning, tuning_heldout };

/// How documents begin and end in tokens.
struct DocumentTokens {
  /// The first of a window: the BOS of tokenizer or config.json, else the EOS; without either, every window
  /// begins with a token drawn uniformly.
  std::optional<std::int32_t> start;
  std::optional<std::int32_t> end;
  bool starts_again = false;  ///< `start` follows `end` by force: the tokenizer puts a BOS before every text
  std::int32_t vocabulary = 0;  ///< ids below it may be drawn; rows of the embedding behind are padding
  std::vector<std::int32_t> unused = {};  ///< ids below it without a token, which are not drawn; ascending
};
/// `config_json` is the model's config.json.
DocumentTokens document_tokens(const Tokenizer& tokenizer, const nlohmann::json& config_json,
                               const ModelConfig& config);

/// Replaces a zero window by the default: 512 tokens, or what the model can see if that is less.
/// Sampling costs a pass over all weights per position, so that 128 windows of 512 take a quarter of the time
/// of 32 of 2048. Throws as resolve().
SampleOptions resolve_self(SampleOptions options, std::int64_t max_positions);

/// `options.samples` windows drawn from the model's own distribution: temperature 1, nothing truncated. An
/// EOS ends a document and the window goes on with the next one. `options` are resolved; Samples::text is
/// "self calibration seed 1".
///
/// The same for any number of threads. Window i depends on seed, use, window length and i alone: N windows
/// are the first of any more. Logits, and with them rare tokens, may differ between kinds of processors and
/// between precisions. Throws InputError if logits are not finite, Cancelled.
Samples self_text(Decoder& decoder, const DocumentTokens& documents, const SampleOptions& options,
                  SelfTextUse use, Progress& progress = Progress::none());

/// Bytes that self_text() needs with the whole model loaded, about.
std::uint64_t self_text_memory(const ModelConfig& config, const Backend& backend, std::int64_t window);
/// Throws UsageError, saying to give a text, if that is more than `available`; nothing is known without it.
void check_self_text_memory(const ModelConfig& config, const Backend& backend, std::int64_t window,
                            std::optional<std::uint64_t> available);

}  // namespace knapsaq
