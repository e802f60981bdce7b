#include "knapsaq/calib/samples.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/random.h"
#include "knapsaq/text/corpus.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kDefaultWindow = 2048;
/// The part of a text that is held back, if any: enough to draw evaluation windows from different places.
constexpr std::int64_t kHeldBack = 4;
/// Far above any use; keeps products of sizes far from overflow.
constexpr std::int64_t kMostSamples = std::int64_t{1} << 24;

}  // namespace

SampleOptions resolve(SampleOptions options, std::int64_t max_positions) {
  if (options.window == 0) options.window = std::min(kDefaultWindow, max_positions);
  if (options.samples < 1 || options.samples > kMostSamples)
    throw UsageError(
        fmt::format("{} samples make no calibration: give 1 to {}", options.samples, kMostSamples));
  if (options.window < 2 || options.window > max_positions)
    throw UsageError(fmt::format("a window of {} tokens does not fit the model: give 2 to {}", options.window,
                                 max_positions));
  return options;
}

CalibrationText read_calibration_text(std::span<const fs::path> files) {
  CalibrationText text;
  for (const fs::path& file : files) {
    std::string content = read_text_file(file);
    if (file.extension() == ".jsonl") {
      for (std::string& document : parse_documents(content, file.string()))
        if (!document.empty()) text.documents.push_back(std::move(document));
    } else {
      text.documents.push_back(std::move(content));
    }
  }
  if (text.documents.empty())
    throw InputError(files.empty() ? std::string("no text to calibrate with: give a file")
                                   : files[0].string() + ": holds no text; give a file with text in it");
  Hasher hasher;
  for (const std::string& document : text.documents) {
    hasher.update(fmt::format("{}:", document.size()));
    hasher.update(document);
  }
  text.hash = hasher.hex();
  return text;
}

std::vector<std::int32_t> encode_documents(const CalibrationText& text, const Tokenizer& tokenizer) {
  std::vector<std::int32_t> stream;
  for (const std::string& document : text.documents) {
    const std::vector<std::int32_t> ids = tokenizer.encode(document);
    stream.insert(stream.end(), ids.begin(), ids.end());
  }
  return stream;
}

Samples make_samples(std::vector<std::int32_t> tokens, const SampleOptions& options, std::string text) {
  Hasher hasher;
  hasher.update(fmt::format("{}x{}:", options.samples, options.window));
  hasher.update(std::as_bytes(std::span(tokens)));
  return {.tokens = std::move(tokens), .options = options, .text = std::move(text), .hash = hasher.hex()};
}

std::vector<std::int32_t> place_windows(std::span<const std::int32_t> stream, const Tokenizer& tokenizer,
                                        const SampleOptions& options) {
  const std::int64_t needed = options.samples * options.window;
  const std::int64_t slack = std::ssize(stream) - needed;
  if (slack < 0) {
    const std::int64_t fitting = std::ssize(stream) / options.window;
    throw InputError(fmt::format(
        "the text has {} tokens, but {} samples of {} need {}: give more text{}", stream.size(),
        options.samples, options.window, needed,
        fitting > 0 ? fmt::format(", or --samples {}", fitting) : std::string(", or a smaller --window")));
  }

  // The gaps before the windows, in order, are the free tokens: sorted draws from [0, slack] make every
  // placement without overlap equally likely.
  Random random(options.seed);
  std::vector<std::int64_t> gaps(static_cast<std::size_t>(options.samples));
  for (std::int64_t& gap : gaps)
    gap = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(slack) + 1));
  std::sort(gaps.begin(), gaps.end());

  std::vector<std::int32_t> tokens;
  tokens.reserve(static_cast<std::size_t>(needed));
  for (std::int64_t i = 0; i < options.samples; ++i) {
    const auto begin = stream.begin() + gaps[static_cast<std::size_t>(i)] + i * options.window;
    const auto first = tokens.insert(tokens.end(), begin, begin + options.window);
    if (tokenizer.adds_bos()) *first = tokenizer.bos().value();
  }
  return tokens;
}

std::span<const std::int32_t> front_of(std::span<const std::int32_t> stream, const SampleOptions& options) {
  if (options.held_back == 0) return stream;
  const auto back = std::max<std::int64_t>(std::ssize(stream) / kHeldBack, options.held_back);
  return stream.first(static_cast<std::size_t>(std::max<std::int64_t>(0, std::ssize(stream) - back)));
}

Samples sample_windows(const CalibrationText& text, const Tokenizer& tokenizer,
                       const SampleOptions& options) {
  const std::vector<std::int32_t> stream = encode_documents(text, tokenizer);
  return make_samples(place_windows(front_of(stream, options), tokenizer, options), options, text.hash);
}

}  // namespace knapsaq
