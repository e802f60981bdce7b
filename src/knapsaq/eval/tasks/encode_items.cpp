#include "knapsaq/eval/tasks/encode_items.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/eval/tasks/python_text.h"

namespace knapsaq {
namespace {

std::optional<std::int32_t> prefix_token(const Tokenizer& tokenizer) {
  return tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
}

std::vector<std::int32_t> encode(const Tokenizer& tokenizer, const std::string& text) {
  bool add_special = true;
  if (const std::optional<std::int32_t> prefix = prefix_token(tokenizer)) {
    const std::string spelled = tokenizer.decode({&*prefix, 1});
    add_special = spelled.empty() || !text.starts_with(spelled);
  }
  return tokenizer.encode(text, add_special);
}

}  // namespace

EncodedAnswer encode_answer(const Tokenizer& tokenizer, const Answer& answer, std::int64_t positions) {
  const std::string context(python_rstrip(answer.context));
  const std::string continuation = answer.context.substr(context.size()) + answer.continuation;
  std::vector<std::int32_t> tokens;
  if (!context.empty()) tokens = encode(tokenizer, context);
  std::vector<std::int32_t> rest;
  if (!tokens.empty()) {
    const std::vector<std::int32_t> whole = encode(tokenizer, context + continuation);
    if (whole.size() > tokens.size()) rest.assign(whole.begin() + std::ssize(tokens), whole.end());
  } else {
    rest = tokenizer.encode(continuation, false);
    const std::optional<std::int32_t> prefix = prefix_token(tokenizer);
    if (!prefix) throw InputError("the context is empty, and the tokenizer has neither BOS nor EOS");
    tokens = {*prefix};
    if (!rest.empty() && rest.front() == *prefix) rest.erase(rest.begin());
  }
  const std::int64_t asked = std::ssize(rest);
  if (asked == 0) throw InputError("an answer has no tokens of its own");
  if (asked > positions)
    throw InputError(
        fmt::format("an answer has {} tokens, more than the {} that the model can see", asked, positions));
  tokens.insert(tokens.end(), rest.begin(), rest.end());
  if (std::ssize(tokens) > positions + 1) tokens.erase(tokens.begin(), tokens.end() - (positions + 1));
  const std::int64_t first = std::ssize(tokens) - asked;
  return {std::move(tokens), first};
}

std::vector<EncodedItem> encode_items(const Tokenizer& tokenizer, std::span<const TaskItem> items,
                                      std::int64_t positions, const std::string& where, Progress& progress) {
  // Items between two checks for cancellation.
  constexpr std::size_t kPiece = 64;
  std::vector<EncodedItem> encoded(items.size());
  ProgressScope scope(progress, "tokenizing", items.size(), "items");
  parallel_for((items.size() + kPiece - 1) / kPiece, [&](std::size_t piece) {
    check_cancelled();
    const std::size_t end = std::min(items.size(), (piece + 1) * kPiece);
    for (std::size_t i = piece * kPiece; i < end; ++i) {
      try {
        for (const Answer& answer : items[i].answers)
          encoded[i].answers.push_back(encode_answer(tokenizer, answer, positions));
      } catch (const InputError& error) {
        throw InputError(fmt::format("{}:{}: {}", where, items[i].line, error.what()));
      }
    }
    scope.advance(end - piece * kPiece);
  });
  return encoded;
}

}  // namespace knapsaq
