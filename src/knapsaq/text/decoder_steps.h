#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/text/decoder.h"

namespace knapsaq {

// The effect of decoder steps on one token, shared by decode_tokens() and TextStream.

/// The bytes of a token in ByteAlphabet's letters. A token with a character outside the alphabet (an added
/// one) is returned unchanged.
std::string byte_level_bytes(const std::string& token);

/// `token` with every `pattern` replaced by `content`, from left to right.
std::string replaced(std::string_view token, const std::string& pattern, const std::string& content);

/// The byte of a token "<0x00>".."<0xFF>".
std::optional<char> fallback_byte(std::string_view token);
/// Appends the tokens for a sequence of such bytes. As in Hugging Face's decoder, one bad byte spoils the
/// whole sequence: every byte of it becomes U+FFFD.
void append_fallback_run(const std::string& bytes, std::vector<std::string>& tokens);

/// `token` after a step kStrip.
std::string stripped(std::string_view token, const DecoderStep& step);

}  // namespace knapsaq
