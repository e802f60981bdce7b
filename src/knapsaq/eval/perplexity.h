#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "knapsaq/base/progress.h"
#include "knapsaq/eval/windows.h"

namespace knapsaq {

/// Perplexity of one text.
struct Perplexity {
  double nll = 0;             ///< weighted mean of the windows' mean negative log-likelihoods, in nats
  double perplexity = 0;      ///< exp(nll)
  double standard_error = 0;  ///< of nll, from the spread between windows; 0 for a single window
  std::int64_t tokens = 0;    ///< scored ones
  std::int64_t windows = 0;
};

/// Scores `windows` windows of `length` tokens that lie one after another in `tokens`: out[w * (length-1) +
/// t] is the negative log-likelihood of token t+1 of window w given tokens 0..t. Decoder::losses is one.
using LossFunction = std::function<void(std::span<const std::int32_t> tokens, std::int64_t windows,
                                        std::int64_t length, std::span<float> out)>;

/// Runs the protocol of `options` (resolved) over a tokenized text. `bos` replaces the first token of every
/// window in protocol llama; give it if the tokenizer adds a BOS. Losses accumulate in double, window by
/// window, in order. Throws InputError for a text that is too short, NotFiniteError for a perplexity that is
/// not finite, Cancelled on interruption.
Perplexity perplexity(std::span<const std::int32_t> tokens, const WindowOptions& options,
                      std::optional<std::int32_t> bos, const LossFunction& losses,
                      Progress& progress = Progress::none());

}  // namespace knapsaq
