#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace knapsaq {

/// Working memory of one thread for matching; never used by two threads at the same time.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(RegexScratch&&) noexcept;
  RegexScratch& operator=(RegexScratch&&) noexcept;

 private:
  friend class Regex;
  struct State;
  std::unique_ptr<State> state_;
  std::string shadow_;
};

/// A regular expression as in tokenizer files. Hugging Face's tokenizers run these in Oniguruma. Here they
/// are translated to PCRE2. Constructs that mean something else there, or are not known to mean the same, are
/// refused, and so are expressions that match the empty text. Characters have the properties of Unicode 16
/// (as in Oniguruma), even if PCRE2 has an older version.
class Regex {
 public:
  /// Throws InputError, which names `where`, if the expression is not supported or does not compile.
  Regex(std::string_view pattern, std::string where);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  /// The expression as it was given.
  const std::string& pattern() const;

  /// Splits `text` (well-formed UTF-8) into matches and the parts between them, in order, without empty
  /// parts: part(begin, end, is_match). Throws InputError if the expression needs too many steps on this
  /// text.
  template <class Function>
  void split(std::string_view text, RegexScratch& scratch, Function&& part) const {
    const std::string_view subject = subject_of(text, scratch);
    std::size_t done = 0;
    Match match;
    while (done < text.size() && find(subject, done, scratch, match)) {
      if (match.begin > done) part(done, match.begin, false);
      part(match.begin, match.end, true);
      done = match.end;
    }
    if (done < text.size()) part(done, text.size(), false);
  }

 private:
  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  std::string_view subject_of(std::string_view text, RegexScratch& scratch) const;
  bool find(std::string_view subject, std::size_t from, RegexScratch& scratch, Match& match) const;

  struct Code;
  std::unique_ptr<Code> code_;
};

/// The pattern in PCRE2's syntax; see Regex. Throws InputError.
std::string to_pcre2(std::string_view pattern, const std::string& where);

}  // namespace knapsaq
