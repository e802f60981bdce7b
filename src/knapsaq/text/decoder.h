#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace knapsaq {

/// One step from token strings to text; the names are those of tokenizer.json.
struct DecoderStep {
  enum class Kind {
    kByteLevel,     ///< ByteAlphabet back to bytes
    kReplace,       ///< `pattern` by `content` in every token
    kByteFallback,  ///< runs of "<0x00>".."<0xFF>" back to bytes
    kFuse,          ///< all tokens become one
    kStrip,      ///< up to `start` times `content` off the beginning of every token, `stop` times off its end
    kMetaspace,  ///< `pattern` becomes a blank; in the first token nothing if `strip_first`
  };
  Kind kind;
  std::string pattern;
  std::string content;
  std::size_t start = 0;
  std::size_t stop = 0;
  bool strip_first = false;
};

/// The text of `tokens`: all steps in order, then everything put together. Without steps the tokens are
/// joined by blanks. Bytes that do not form UTF-8 become U+FFFD.
std::string decode_tokens(const std::vector<DecoderStep>& steps, std::vector<std::string> tokens);

}  // namespace knapsaq
