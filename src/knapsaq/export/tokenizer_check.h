#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/text/tokenizer_model.h"

namespace knapsaq {

/// A text on which tokenizers are compared.
struct TrialText {
  std::string text;
  /// Text that people write: words, numbers, code and lines in many scripts. Not ordinary are blanks at the
  /// ends and in sequences, control characters, decomposed letters, and added tokens spelled in the text.
  bool ordinary = false;
};

/// The texts for a tokenizer: a fixed list, and its added tokens (the first and the last of each kind, and
/// those with flags): alone, between words, beside blanks, and twice in a row.
std::vector<TrialText> trial_texts(const TokenizerParts& parts);

/// The ids of another tokenizer for these texts.
struct TokenizerDifference {
  std::size_t texts = 0;              ///< compared
  std::vector<std::string> ordinary;  ///< those with different ids, in the order of the trial
  std::vector<std::string> unusual;
  bool none() const { return ordinary.empty() && unusual.empty(); }
};

/// Compares the ids, special tokens around a text included.
TokenizerDifference compare_tokenizers(const TokenizerModel& source, const TokenizerModel& other,
                                       std::span<const TrialText> texts);
/// "2 of 90 trial texts, such as 'a', 'b'", of a list that is not empty.
std::string describe(std::span<const std::string> differing, std::size_t texts);

/// The tokens that end a text in a model folder: stop_tokens() for a folder that is not a checkpoint yet, or
/// only a tokenizer.
std::vector<std::int32_t> ends_of_text(const std::filesystem::path& folder, std::optional<std::int32_t> eos);

/// For a folder that was written with the tokenizer's files of `source`. Throws InputError unless the
/// tokenizer read from `out` gives the same ids for the trial texts and has the same tokens with roles, and
/// the same tokens end a text (config.json and generation_config.json). A model without a tokenizer passes,
/// and one whose tokenizer Knapsaq does not read: its files are copies.
void check_carried_tokenizer(const std::filesystem::path& source, const std::filesystem::path& out);

}  // namespace knapsaq
