#include "knapsaq/pipeline/text_judge.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/units.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/eval/compare_windows.h"
#include "knapsaq/eval/evaluation_text.h"
#include "knapsaq/family/config.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/search/summarize.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {
namespace {

/// The first token of the text, if any, that is another one in the other vocabulary.
std::optional<std::int32_t> another_token(const Tokenizer& one, const Tokenizer& other,
                                          std::vector<std::int32_t> tokens) {
  std::ranges::sort(tokens);
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  for (const std::int32_t token : tokens) {
    const std::int32_t id[] = {token};
    if (one.decode(id) != other.decode(id)) return token;
  }
  return std::nullopt;
}

std::string spelled(const Tokenizer& tokenizer, std::int32_t token) {
  const std::int32_t id[] = {token};
  return in_quotes(tokenizer.decode(id));
}

}  // namespace

std::unique_ptr<Backend> make_judging_backend(const std::string& precision) {
  if (precision == "bf16") return make_backend({.precision = Precision::bf16});
  if (precision == "fp32") return make_backend({.precision = Precision::fp32});
  if (precision == "int8")
    return make_backend({.precision = Precision::fp32, .inputs = Inputs::as_llama_cpp});
  throw UsageError(fmt::format("precision {}: give bf16, fp32 or int8", in_quotes(precision)));
}

TextJudge::TextJudge(Session& reference, const std::filesystem::path& text, const WindowOptions& requested,
                     const std::string& precision)
    : session_(reference), precision_(precision) {
  if (requested.protocol == Protocol::stride)
    throw UsageError("models are compared window by window: give --protocol gptq or llama, not stride");
  check_shapes(session_.checkpoint(), session_.config());
  windows_ = resolve(requested, session_.config().max_positions);
  EvaluationText read = read_evaluation_text(text, session_.tokenizer(), windows_);
  text_hash_ = hash_hex(read.text);
  text_tokens_ = std::move(read.tokens);
  const std::vector<Window> plan = plan_windows(std::ssize(text_tokens_), windows_);
  count_ = std::ssize(plan);
  first_target_ = plan.front().first_target;
}

void TextJudge::check(Session& file) const {
  check_shapes(file.checkpoint(), file.config());
  const ModelConfig& full = session_.config();
  const ModelConfig& other = file.config();
  const auto refuse = [&](const std::string& what) {
    throw InputError(fmt::format("{}: {}", file.path().string(), what));
  };
  if (other.vocab != full.vocab)
    refuse(fmt::format(
        "has a vocabulary of {} tokens, and the reference {} one of {}: only models of one vocabulary "
        "can be compared token by token",
        other.vocab, session_.path().string(), full.vocab));
  const Tokenizer& tokenizer = session_.tokenizer();
  const Tokenizer& of_file = file.tokenizer();
  if (const auto token = another_token(tokenizer, of_file, text_tokens_))
    refuse(fmt::format(
        "has another vocabulary than the reference {}: token {} is {} and not {}; only models of one "
        "vocabulary can be compared token by token",
        session_.path().string(), *token, spelled(of_file, *token), spelled(tokenizer, *token)));
  if (windows_.window > other.max_positions)
    refuse(fmt::format("can see {} tokens, and a window has {}: give --window {}", other.max_positions,
                       windows_.window, other.max_positions));
}

std::uint64_t TextJudge::prediction_bytes() const {
  const std::uint64_t size = precision_ == "bf16" ? 2 : 4;
  return static_cast<std::uint64_t>(count_ * windows_.window * session_.config().hidden) * size;
}

void TextJudge::predict() {
  std::shared_ptr<Backend> backend = make_judging_backend(precision_);
  const auto available = backend->available_memory();
  if (available && *available < prediction_bytes())
    throw InputError(fmt::format(
        "{}: its predictions of {} windows take {} of memory, and {} are free: give --windows {} or fewer",
        session_.path().string(), count_, format_bytes(prediction_bytes()), format_bytes(*available),
        std::max<std::int64_t>(
            1, static_cast<std::int64_t>(static_cast<double>(count_) * 0.8 * static_cast<double>(*available) /
                                         static_cast<double>(prediction_bytes())))));
  Decoder decoder = Decoder::load(session_.checkpoint(), session_.config(), *backend, session_.listener());
  std::vector<std::int32_t> tokens(text_tokens_.begin(), text_tokens_.begin() + count_ * windows_.window);
  const Tokenizer& tokenizer = session_.tokenizer();
  if (windows_.protocol == Protocol::llama && tokenizer.adds_bos() && tokenizer.bos())
    for (std::int64_t w = 0; w < count_; ++w)
      tokens[static_cast<std::size_t>(w * windows_.window)] = *tokenizer.bos();
  reference_ = reference_windows(decoder, std::move(tokens), count_, windows_.window, session_.listener());
  reference_.first_target = first_target_;
  reference_measurement_ =
      summarize(reference_rows(*backend, reference_, session_.listener()), count_, Divergence::kl);
  if (!reference_measurement_.finite())
    throw NotFiniteError(session_.path().string() + ": the reference's loss on this text is not finite");
  backend_ = std::move(backend);
}

std::unique_ptr<Decoder> TextJudge::load(Session& file) const {
  return std::make_unique<Decoder>(
      Decoder::load(file.checkpoint(), file.config(), *backend_, session_.listener()));
}

Measurement TextJudge::measure(Decoder& file) const {
  Measurement found =
      summarize(compare_rows(file, reference_, count_, false, session_.listener()), count_, Divergence::kl);
  if (!found.finite()) {
    file.require_finite(reference_.tokens, count_, windows_.window);
    throw NotFiniteError("the model's divergence from the reference is not finite");
  }
  return found;
}

std::string TextJudge::identity() const {
  return hash_hex(fmt::format("{} {} {} {} {} {}", session_.fingerprint(), text_hash_,
                              name_of(windows_.protocol), windows_.window, windows_.limit, precision_))
      .substr(0, 16);
}

}  // namespace knapsaq
