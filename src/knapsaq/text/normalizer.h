#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/text/regex.h"

namespace knapsaq {

/// One change of the text before it is split. The names are those of tokenizer.json.
struct NormalizerStep {
  enum class Kind {
    kNfc,
    kNfd,
    kNfkc,
    kNfkd,
    kLowercase,     ///< for the letters that utf8proc knows (2.8: Unicode 15)
    kPrepend,       ///< prepends `content`, unless the text is empty
    kReplace,       ///< replaces `pattern` by `content`
    kReplaceRegex,  ///< replaces matches of `regex` by `content`
  };
  Kind kind;
  std::string pattern;
  std::string content;
  std::shared_ptr<const Regex> regex;
};

class Normalizer {
 public:
  Normalizer() = default;
  explicit Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {}

  bool empty() const { return steps_.empty(); }
  const std::vector<NormalizerStep>& steps() const { return steps_; }
  /// `text` must be well-formed UTF-8; the result is well-formed too.
  std::string apply(std::string_view text, RegexScratch& scratch) const;

 private:
  std::vector<NormalizerStep> steps_;
};

}  // namespace knapsaq
