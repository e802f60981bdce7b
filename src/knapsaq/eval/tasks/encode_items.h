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
  std::int64_t first = 0;  ///< where the continuation starts; at least 1
};

struct EncodedItem {
  std::vector<EncodedAnswer> answers;
};

/// Tokens of an answer as the harness's HFLM makes them: white space at the end of the context goes to the
/// continuation; ids = encode(context + continuation), before = encode(context), both with what the tokenizer
/// adds by default (unless the text starts with the BOS, or the EOS of a tokenizer without one); the
/// continuation's are those of `ids` behind as many as `before` has, and stand behind `before`. A context
/// without tokens is replaced by BOS, or EOS. What is longer than `positions` + 1 (the last token is not
/// read) loses tokens on the left. Throws InputError for a continuation without tokens, one that is longer
/// than the model sees, and a context that nothing can stand for.
EncodedAnswer encode_answer(const Tokenizer& tokenizer, const Answer& answer, std::int64_t positions);

/// All answers of all items, on all threads. Errors begin with `where`:LINE.
std::vector<EncodedItem> encode_items(const Tokenizer& tokenizer, std::span<const TaskItem> items,
                                      std::int64_t positions, const std::string& where,
                                      Progress& progress = Progress::none());

}  // namespace knapsaq
