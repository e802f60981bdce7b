#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace knapsaq {

/// One step from token strings to text. The names are those of tokenizer.json.
struct DecoderStep {
  enum class Kind {
    kByteLevel,     ///< ByteAlphabet back to bytes
    kReplace,       ///< replaces `pattern` by `content` in every token
    kByteFallback,  ///< runs of "<0x00>".."<0xFF>" back to bytes
    kFuse,          ///< joins all tokens into one
    kStrip,  ///< removes up to `start` times `content` from the beginning of every token, `stop` times from
             ///< its end
    kMetaspace,  ///< replaces `pattern` by a blank; by nothing at the beginning of the first token if
                 ///< `strip_first`
  };
  Kind kind;
  std::string pattern;
  std::string content;
  std::size_t start = 0;
  std::size_t stop = 0;
  bool strip_first = false;
};

/// The text of `tokens`: applies all steps in order, then joins the results. Without steps, the tokens are
/// joined by blanks. Bytes that do not form UTF-8 become U+FFFD.
std::string decode_tokens(const std::vector<DecoderStep>& steps, std::vector<std::string> tokens);

}  // namespace knapsaq
