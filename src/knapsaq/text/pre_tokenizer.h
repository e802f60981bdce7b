#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/text/regex.h"

namespace knapsaq {

/// One step of splitting text into the pieces that byte-pair encoding works on. The names are those of
/// tokenizer.json.
struct PreTokenizerStep {
  enum class Kind {
    kSplit,        ///< at matches of `regex`, or of the literal `pattern` if there is no regex
    kPrefixSpace,  ///< adds a leading blank unless there is one
    kByteLevel,    ///< pieces become bytes; the last step
    kMetaspace,    ///< blanks become `pattern`, which is also prepended according to `prefix`; splits
                   ///< before it if `split`
  };
  /// What happens to a match. Every other part of the text is a piece.
  enum class Behaviour {
    kRemoved,
    kIsolated,            ///< a piece of its own
    kMergedWithPrevious,  ///< joined to the part before it unless that is a match
    kMergedWithNext,
    kContiguous,  ///< joined to adjacent matches
  };
  enum class Prefix { kNever, kFirst, kAlways };

  Kind kind = Kind::kSplit;
  std::string pattern;
  std::shared_ptr<const Regex> regex;
  Behaviour behaviour = Behaviour::kIsolated;
  bool invert = false;              ///< kSplit: matches are parts and parts are matches
  Prefix prefix = Prefix::kAlways;  ///< kFirst: only at the beginning of the whole text
  bool split = true;
};

class PreTokenizer {
 public:
  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<PreTokenizerStep> steps) : steps_(std::move(steps)) {}

  const std::vector<PreTokenizerStep>& steps() const { return steps_; }
  /// Whether the pieces are bytes (as in GPT-2) rather than characters.
  bool byte_level() const {
    return !steps_.empty() && steps_.back().kind == PreTokenizerStep::Kind::kByteLevel;
  }

  /// Calls piece(std::string_view) for every piece of `text` (well-formed UTF-8), in order; none is empty.
  /// The view is valid during the call. `first`: the text is at the beginning of the user's text.
  template <class Function>
  void split(std::string_view text, bool first, RegexScratch& scratch, Function&& piece) const {
    using Plain = std::remove_reference_t<Function>;
    run(0, text, first, scratch, {&piece, [](const void* context, std::string_view part, bool) {
                                    (*static_cast<Plain*>(const_cast<void*>(context)))(part);
                                  }});
  }

 private:
  /// A function of a piece and whether it is at the beginning of the user's text.
  struct Sink {
    const void* context;
    void (*call)(const void* context, std::string_view piece, bool first);
    void operator()(std::string_view piece, bool first) const {
      if (!piece.empty()) call(context, piece, first);
    }
  };

  void run(std::size_t step, std::string_view text, bool first, RegexScratch& scratch,
           const Sink& sink) const;
  static void apply(const PreTokenizerStep& step, std::string_view text, bool first, RegexScratch& scratch,
                    const Sink& sink);

  std::vector<PreTokenizerStep> steps_;
};

}  // namespace knapsaq
