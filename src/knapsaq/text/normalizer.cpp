#include "knapsaq/text/normalizer.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/utf8.h"
#include "knapsaq/text/unicode_additions.h"

namespace knapsaq {
namespace {

/// One of Unicode's four normal forms of a piece of text, by utf8proc.
class NormalForm {
 public:
  explicit NormalForm(NormalizerStep::Kind kind) {
    using Kind = NormalizerStep::Kind;
    const bool composed = kind == Kind::kNfc || kind == Kind::kNfkc;
    const bool compatible = kind == Kind::kNfkc || kind == Kind::kNfkd;
    int options = UTF8PROC_STABLE | (composed ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
    if (compatible) options |= UTF8PROC_COMPAT;
    options_ = static_cast<utf8proc_option_t>(options);
    // Nothing below U+0300 (lead bytes below CC) decomposes in NFC's end result or combines with the
    // preceding character; ASCII does neither in any form. Text may therefore be split before such
    // characters.
    first_lead_ = kind == Kind::kNfc ? 0xCC : 0x80;
  }

  std::string apply(std::string_view text) {
    std::string out;
    out.reserve(text.size() + text.size() / 8);
    std::size_t done = 0;
    std::size_t at = 0;
    while (at < text.size()) {
      if (is_plain(text[at])) {
        ++at;
        continue;
      }
      // The preceding character may combine with this one.
      std::size_t begin = at;
      while (begin > done && (static_cast<unsigned char>(text[--begin]) & 0xC0) == 0x80) {
      }
      std::size_t end = at;
      while (end < text.size() && !is_plain(text[end])) end += utf8_length(text[end]);
      out.append(text.substr(done, begin - done));
      normalize(text.substr(begin, end - begin), out);
      done = at = end;
    }
    out.append(text.substr(done));
    return out;
  }

 private:
  bool is_plain(char c) const { return static_cast<unsigned char>(c) < first_lead_; }

  void normalize(std::string_view run, std::string& out) {
    std::size_t begin = 0;
    std::size_t length = 0;
    for (std::size_t at = 0; at < run.size(); at += length) {
      if (!is_normalization_barrier(utf8_decode(run, at, length))) continue;
      normalize_known(run.substr(begin, at - begin), out);
      out.append(run.substr(at, length));
      begin = at + length;
    }
    normalize_known(run.substr(begin), out);
  }

  void normalize_known(std::string_view run, std::string& out) {
    if (run.empty()) return;
    // No code point decomposes into more than 18 (U+FDFA); most into one.
    points_.resize(run.size() + 18);
    const auto decompose = [&] {
      return utf8proc_decompose(reinterpret_cast<const utf8proc_uint8_t*>(run.data()),
                                static_cast<utf8proc_ssize_t>(run.size()), points_.data(),
                                static_cast<utf8proc_ssize_t>(points_.size()), options_);
    };
    utf8proc_ssize_t count = decompose();
    if (count > static_cast<utf8proc_ssize_t>(points_.size())) {
      points_.resize(static_cast<std::size_t>(count));
      count = decompose();
    }
    if (count >= 0) count = utf8proc_normalize_utf32(points_.data(), count, options_);
    if (count < 0) throw InputError(fmt::format("cannot normalise a text: {}", utf8proc_errmsg(count)));
    for (utf8proc_ssize_t i = 0; i < count; ++i)
      append_utf8(out, static_cast<char32_t>(points_[static_cast<std::size_t>(i)]));
  }

  utf8proc_option_t options_;
  unsigned char first_lead_;
  std::vector<utf8proc_int32_t> points_;
};

std::string lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::size_t length = 0;
  for (std::size_t at = 0; at < text.size(); at += length) {
    const char32_t point = utf8_decode(text, at, length);
    append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(point))));
    // The only character whose lower case is two: i and a dot above.
    if (point == 0x130) {
      out.resize(out.size() - utf8_length('i'));
      out += "i\xCC\x87";
    }
  }
  return out;
}

std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  std::size_t done = 0;
  for (std::size_t at = text.find(pattern); at != std::string_view::npos; at = text.find(pattern, done)) {
    out.append(text.substr(done, at - done));
    out.append(content);
    done = at + pattern.size();
  }
  out.append(text.substr(done));
  return out;
}

std::string apply_step(const NormalizerStep& step, std::string_view text, RegexScratch& scratch) {
  using Kind = NormalizerStep::Kind;
  switch (step.kind) {
    case Kind::kLowercase:
      return lowercase(text);
    case Kind::kPrepend:
      return text.empty() ? std::string() : step.content + std::string(text);
    case Kind::kReplace:
      return replace_all(text, step.pattern, step.content);
    case Kind::kReplaceRegex: {
      std::string out;
      step.regex->split(text, scratch, [&](std::size_t begin, std::size_t end, bool is_match) {
        out.append(is_match ? std::string_view(step.content) : text.substr(begin, end - begin));
      });
      return out;
    }
    default:
      return NormalForm(step.kind).apply(text);
  }
}

}  // namespace

std::string Normalizer::apply(std::string_view text, RegexScratch& scratch) const {
  std::string out(text);
  for (const NormalizerStep& step : steps_) out = apply_step(step, out, scratch);
  return out;
}

}  // namespace knapsaq
