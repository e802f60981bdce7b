#include "knapsaq/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <pcre2.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/text/unicode_additions.h"

namespace knapsaq {
namespace {

using CodePointer = std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)>;

/// Patterns of real tokenizers have at most 700 bytes.
constexpr std::size_t kLongestPattern = 16384;
/// Steps that one match may take, in addition to some for every byte of the text (a run of n blanks takes
/// about 2n). Real patterns take tens per match. A million takes about 10 ms, so a hostile pattern ends in an
/// error and does not hang.
constexpr std::uint64_t kSteps = 1000000;
constexpr std::uint64_t kStepsPerByte = 16;
/// For patterns with repeated groups; repeated single characters take no stack.
constexpr std::size_t kStackBytes = std::size_t{8} << 20;
constexpr std::size_t kHeapKiB = std::size_t{64} << 10;

std::string error_text(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

CodePointer compile(const std::string& pattern, int& error, std::size_t& offset) {
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  // In Oniguruma, ^ and $ always match at lines.
  constexpr std::uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  return {pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), kOptions, &error,
                        &offset, context.get()),
          &pcre2_code_free};
}

/// Walks over a pattern and translates it for PCRE2.
class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : pattern_(pattern), where_(where) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        inside_class(c);
      } else if (c == '[') {
        open_class();
      } else if (c == '(') {
        group();
      } else if (c == '{' && starts_with("{,")) {
        refuse("a repeat without a lower bound");
      } else if (c == '}' && starts_with("}+")) {
        refuse("a '+' behind a counted repeat");
      } else {
        copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw InputError(fmt::format(
        "{}: the regular expression {} uses {}, which is not supported; save the tokenizer with a "
        "simpler expression",
        where_, in_quotes(pattern_), what));
  }
  bool starts_with(std::string_view text) const { return pattern_.substr(at_, text.size()) == text; }
  void copy(std::size_t count) {
    out_.append(pattern_.substr(at_, count));
    at_ += count;
  }

  void open_class() {
    in_class_ = true;
    copy(1);
    if (starts_with("^")) copy(1);
    // A bracket here is literal in PCRE2 and an error or a warning in Oniguruma.
    if (starts_with("]")) refuse("an empty class");
  }

  void inside_class(char c) {
    if (c == '[') refuse("a class inside a class");
    if (c == '&' && starts_with("&&")) refuse("an intersection of classes");
    if (c == ']') in_class_ = false;
    copy(1);
  }

  void group() {
    if (starts_with("(*")) refuse("'(*'");
    if (!starts_with("(?")) return copy(1);
    for (const std::string_view known :
         {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?i)", "(?-i:", "(?-i)"}) {
      if (starts_with(known)) return copy(known.size());
    }
    refuse(in_quotes(pattern_.substr(at_, 3)));
  }

  void escape() {
    if (at_ + 1 >= pattern_.size()) refuse("a '\\' at its end");
    const char c = pattern_[at_ + 1];
    const auto put = [&](std::string_view text) {
      out_.append(text);
      at_ += 2;
    };
    // PCRE2's \s has U+180E, and its \w no marks; Oniguruma's \w has Latin-1's superscripts and fractions.
    constexpr std::string_view kWord =
        "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";
    switch (c) {
      case 's':
        return put("\\p{White_Space}");
      case 'S':
        return put("\\P{White_Space}");
      case 'd':
        return put("\\p{Nd}");
      case 'D':
        return put("\\P{Nd}");
      case 'w':
        return put(in_class_ ? std::string(kWord) : fmt::format("[{}]", kWord));
      case 'W':
        return in_class_ ? refuse("\\W inside a class") : put(fmt::format("[^{}]", kWord));
      case 'p':
      case 'P':
        return property();
      case 'x':
        return hexadecimal(true);
      case 'u':
        return hexadecimal(false);
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'a':
      case 'e':
        return copy(2);
      case 'A':
      case 'Z':
      case 'z':
        return in_class_ ? refuse(in_quotes(pattern_.substr(at_, 2))) : copy(2);
      default:
        break;
    }
    const bool alphanumeric = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (alphanumeric) refuse(in_quotes(pattern_.substr(at_, 2)));
    copy(1);
    copy(1);
  }

  void hexadecimal(bool braces_or_two) {
    at_ += 2;
    std::string_view digits;
    if (braces_or_two && starts_with("{")) {
      const std::size_t end = pattern_.find('}', at_);
      if (end == std::string_view::npos) refuse("'\\x{' without an end");
      digits = pattern_.substr(at_ + 1, end - at_ - 1);
      at_ = end + 1;
    } else {
      digits = pattern_.substr(at_, braces_or_two ? 2 : 4);
      at_ += digits.size();
      if (digits.size() != (braces_or_two ? 2U : 4U)) refuse("too few hexadecimal digits");
      // Two digits are a byte for Oniguruma, a code point for PCRE2: the same below 0x80.
      if (braces_or_two && digits[0] > '7') refuse("a byte above 7F");
    }
    if (digits.empty() || digits.size() > 6 ||
        digits.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos) {
      refuse("a hexadecimal number that is none");
    }
    out_ += fmt::format("\\x{{{}}}", digits);
  }

  void property() {
    const bool negated = pattern_[at_ + 1] == 'P';
    at_ += 2;
    const std::size_t end = starts_with("{") ? pattern_.find('}', at_) : std::string_view::npos;
    if (end == std::string_view::npos) refuse("a property without braces");
    std::string_view name = pattern_.substr(at_ + 1, end - at_ - 1);
    bool caret = false;
    if (!name.empty() && name[0] == '^') {
      caret = true;
      name.remove_prefix(1);
    }
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
    if (name.empty() || name.size() > 40 || !std::all_of(name.begin(), name.end(), letter))
      refuse("an unknown property");
    at_ = end + 1;
    std::string property(name);
    if (name.size() > 2) {
      // In PCRE2 a bare script's name means the script's extensions.
      int error = 0;
      std::size_t offset = 0;
      const std::string script = "sc:" + property;
      if (compile("\\p{" + script + "}", error, offset)) property = script;
    }
    out_ += fmt::format("\\{}{{{}}}", negated != caret ? 'P' : 'p', property);
  }

  std::string_view pattern_;
  const std::string& where_;
  std::string out_;
  std::size_t at_ = 0;
  bool in_class_ = false;
};

}  // namespace

std::string to_pcre2(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).run();
}

struct Regex::Code {
  CodePointer code{nullptr, &pcre2_code_free};
  bool jit = false;
  std::string pattern;
  std::string where;
};

struct RegexScratch::State {
  std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data{
      pcre2_match_data_create(1, nullptr), &pcre2_match_data_free};
  std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context{
      pcre2_match_context_create(nullptr), &pcre2_match_context_free};
  std::unique_ptr<pcre2_jit_stack, decltype(&pcre2_jit_stack_free)> stack{
      pcre2_jit_stack_create(std::size_t{32} << 10, kStackBytes, nullptr), &pcre2_jit_stack_free};
};

RegexScratch::RegexScratch() : state_(std::make_unique<State>()) {
  pcre2_jit_stack_assign(state_->context.get(), nullptr, state_->stack.get());
  pcre2_set_heap_limit(state_->context.get(), kHeapKiB);
}
RegexScratch::~RegexScratch() = default;
RegexScratch::RegexScratch(RegexScratch&&) noexcept = default;
RegexScratch& RegexScratch::operator=(RegexScratch&&) noexcept = default;

Regex::Regex(std::string_view pattern, std::string where) : code_(std::make_unique<Code>()) {
  if (pattern.size() > kLongestPattern) {
    throw InputError(fmt::format("{}: a regular expression of {} bytes is too long; the most is {}", where,
                                 pattern.size(), kLongestPattern));
  }
  const std::string translated = to_pcre2(pattern, where);
  int error = 0;
  std::size_t offset = 0;
  code_->code = compile(translated, error, offset);
  if (!code_->code) {
    throw InputError(fmt::format("{}: the regular expression {} does not compile: {}; the file is damaged",
                                 where, in_quotes(pattern), error_text(error)));
  }
  std::uint32_t matches_empty = 0;
  pcre2_pattern_info(code_->code.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (matches_empty != 0) {
    throw InputError(
        fmt::format("{}: the regular expression {} matches the empty text, which is not supported; save the "
                    "tokenizer with one that does not",
                    where, in_quotes(pattern)));
  }
  code_->jit = pcre2_jit_compile(code_->code.get(), PCRE2_JIT_COMPLETE) == 0;
  code_->pattern = pattern;
  code_->where = std::move(where);
}
Regex::~Regex() = default;
const std::string& Regex::pattern() const { return code_->pattern; }

Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

std::string_view Regex::subject_of(std::string_view text, RegexScratch& scratch) const {
  const std::uint64_t steps = std::min<std::uint64_t>(kSteps + kStepsPerByte * text.size(), 0xFFFFFFFF);
  pcre2_set_match_limit(scratch.state_->context.get(), static_cast<std::uint32_t>(steps));
  return replace_unicode_additions(text, scratch.shadow_);
}

bool Regex::find(std::string_view subject, std::size_t from, RegexScratch& scratch, Match& match) const {
  RegexScratch::State& state = *scratch.state_;
  const auto* text = reinterpret_cast<PCRE2_SPTR>(subject.data());
  int found = PCRE2_ERROR_JIT_STACKLIMIT;
  if (code_->jit) {
    found = pcre2_jit_match(code_->code.get(), text, subject.size(), from, 0, state.data.get(),
                            state.context.get());
  }
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
    found = pcre2_match(code_->code.get(), text, subject.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                        state.data.get(), state.context.get());
  }
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0) {
    throw InputError(
        fmt::format("{}: the regular expression {} cannot be applied to this text: {}; use a simpler one",
                    code_->where, in_quotes(code_->pattern), error_text(found)));
  }
  const std::size_t* bounds = pcre2_get_ovector_pointer(state.data.get());
  match = {bounds[0], bounds[1]};
  // \K is refused and nothing matches the empty text, so this holds; a loop over matches must not depend on
  // it.
  if (match.begin < from || match.end <= match.begin) {
    throw InputError(
        fmt::format("{}: the regular expression {} matches nothing at a place; use a simpler one",
                    code_->where, in_quotes(code_->pattern)));
  }
  return true;
}

}  // namespace knapsaq
