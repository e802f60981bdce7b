#include "knapsaq/calib/search_text.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/random.h"

namespace knapsaq {
namespace {

SampleOptions heldout_options(SampleOptions search, std::int64_t heldout) {
  if (heldout < 1) throw UsageError(fmt::format("{} windows hold nothing out: give 1 or more", heldout));
  search.samples = heldout;
  return search;
}

/// Windows of `stream` in random order (Fisher and Yates).
Samples shuffled_windows(std::span<const std::int32_t> stream, const Tokenizer& tokenizer,
                         const SampleOptions& options, const std::string& text) {
  std::vector<std::int32_t> tokens = place_windows(stream, tokenizer, options);
  Random random(options.seed);
  for (std::int64_t i = options.samples - 1; i > 0; --i) {
    const auto j = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(i) + 1));
    if (i == j) continue;
    const auto window = tokens.begin() + i * options.window;
    std::swap_ranges(window, window + options.window, tokens.begin() + j * options.window);
  }
  return make_samples(std::move(tokens), options, text);
}

}  // namespace

SearchText search_windows(const CalibrationText& text, const Tokenizer& tokenizer,
                          const SampleOptions& search, std::int64_t heldout) {
  const SampleOptions held = heldout_options(search, heldout);
  const std::vector<std::int32_t> all = encode_documents(text, tokenizer);
  const std::span<const std::int32_t> stream = front_of(all, search);
  SampleOptions split = search;
  split.held_back = held.samples * held.window;
  const std::span<const std::int32_t> front = front_of(stream, split);
  const std::int64_t windows = search.samples + held.samples;
  if (std::ssize(front) < search.samples * search.window ||
      std::ssize(stream) - std::ssize(front) < split.held_back)
    throw InputError(fmt::format(
        "the text has {} tokens, but {} windows of {} to search on and {} held out, from its last "
        "quarter or more, need {} at least: give more text, or fewer or shorter windows",
        stream.size(), search.samples, search.window, held.samples, windows * search.window));
  return {shuffled_windows(front, tokenizer, search, text.hash),
          shuffled_windows(stream.subspan(front.size()), tokenizer, held, text.hash)};
}

}  // namespace knapsaq
