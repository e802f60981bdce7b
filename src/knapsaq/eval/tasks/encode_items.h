#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/base/progress.h"
#include "knapsaq/eval/tasks/item.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {

/// An answer as tokens: those of the context, then those of the continuation.
struct EncodedAnswer {
  std::vector<std::int32_t> tokens;
  std::int64_t first = 0;  ///< start of the continuation; at least 1
};

struct EncodedItem {
  std::vector<EncodedAnswer> answers;
};

/// Tokens of an answer, computed like the harness's HFLM: white space at the end of the context moves to the
/// continuation; ids = encode(context + continuation), before = encode(context), both with the tokenizer's
/// default special tokens (unless the text starts with the BOS, or the EOS of a tokenizer without one). The
/// continuation is `ids` after the first size(before) ids, and it follows `before`. A context without tokens
/// is replaced by BOS, or EOS. Tokens beyond `positions` + 1 (the last token is not read) are removed on the
/// left. Throws InputError for a continuation without tokens, one that is longer than the model's positions,
/// and an empty context without BOS and EOS.
EncodedAnswer encode_answer(const Tokenizer& tokenizer, const Answer& answer, std::int64_t positions);

/// All answers of all items, on all threads. Errors begin with `where`:LINE.
std::vector<EncodedItem> encode_items(const Tokenizer& tokenizer, std::span<const TaskItem> items,
                                      std::int64_t positions, const std::string& where,
                                      Progress& progress = Progress::none());

}  // namespace knapsaq
