#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/calib/sample_options.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {

/// Replaces a zero window by the default. Throws UsageError for fewer than 1 sample or 2 tokens, and for a
/// window longer than `max_positions`.
SampleOptions resolve(SampleOptions options, std::int64_t max_positions);

/// The texts of one or more files.
struct CalibrationText {
  std::vector<std::string> documents;  ///< UTF-8; a plain file is one document, a JSONL file has one per line
  std::string hash;                    ///< of the documents and their boundaries
};

/// Reads plain text, or JSONL if a file's name ends in .jsonl: one object with a string `text` per line.
/// Throws InputError, naming file (and line), for anything else, and for files without any text.
CalibrationText read_calibration_text(std::span<const std::filesystem::path> files);

/// Windows of tokens, one after another.
struct Samples {
  std::vector<std::int32_t> tokens;  ///< [options.samples * options.window]
  SampleOptions options;             ///< resolved
  std::string text;                  ///< CalibrationText::hash, or as self_text() says
  std::string hash;                  ///< of tokens, samples and window
};

/// Samples with their hash.
Samples make_samples(std::vector<std::int32_t> tokens, const SampleOptions& options, std::string text);

/// Every document, encoded with the tokenizer's special tokens around a text, one after another.
std::vector<std::int32_t> encode_documents(const CalibrationText& text, const Tokenizer& tokenizer);

/// The part of a text's tokens that `options.held_back` leaves; the rest follows it.
std::span<const std::int32_t> front_of(std::span<const std::int32_t> stream, const SampleOptions& options);

/// `options.samples` windows of `stream` without overlap, in its order, at places drawn uniformly from all
/// such placements. If the tokenizer adds a BOS, it replaces the first token of every window, as in eval's
/// protocol llama, because models are used this way. `options` are resolved. Throws InputError, stating the
/// available and the needed number of tokens, for a text that is too short.
std::vector<std::int32_t> place_windows(std::span<const std::int32_t> stream, const Tokenizer& tokenizer,
                                        const SampleOptions& options);

/// place_windows() in front_of() of encode_documents(); a window may extend from one document into the next.
Samples sample_windows(const CalibrationText& text, const Tokenizer& tokenizer, const SampleOptions& options);

}  // namespace knapsaq
