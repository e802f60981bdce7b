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
    kLowercase,     ///< of the letters that utf8proc knows (in 2.8: Unicode 15)
    kPrepend,       ///< `content` in front, unless the text is empty
    kReplace,       ///< `pattern` by `content`
    kReplaceRegex,  ///< matches of `regex` by `content`
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
  /// `text` is well-formed UTF-8, and so is the result.
  std::string apply(std::string_view text, RegexScratch& scratch) const;

 private:
  std::vector<NormalizerStep> steps_;
};

}  // namespace knapsaq
