#include "knapsaq/text/text_stream.h"

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <utility>

#include "knapsaq/base/utf8.h"
#include "knapsaq/text/decoder_steps.h"
#include "knapsaq/text/tokenizer_model.h"

namespace knapsaq {

/// A step receives the output of the step before it. Before tokens are joined (ByteLevel, Fuse), every string
/// is a whole token; after that, all strings are parts of one, split anywhere.
class TextStream::Step {
 public:
  using Strings = std::vector<std::string>;
  virtual ~Step() = default;
  virtual void add(std::string text, Strings& out) = 0;
  virtual void finish(Strings& /*out*/) {}
};

namespace {

using Step = TextStream::Step;
using Strings = Step::Strings;

/// Number of bytes at the end of `text` that may still become a character: 0..3.
std::size_t unfinished(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const std::size_t at = text.size() - back;
    const auto lead = static_cast<unsigned char>(text[at]);
    if ((lead & 0xC0) == 0x80) continue;
    const bool starts = lead >= 0xC2 && lead <= 0xF4;
    // utf8_step() returns how many bytes are valid so far.
    return starts && back < utf8_length(text[at]) && utf8_step(text, at) == -static_cast<int>(back) ? back
                                                                                                    : 0;
  }
  return 0;
}

/// Converts bytes to UTF-8, with U+FFFD for invalid ones. Always the last step.
class Utf8 final : public Step {
 public:
  void add(std::string text, Strings& out) override {
    held_ += text;
    const std::size_t whole = held_.size() - unfinished(held_);
    if (whole == 0) return;
    out.push_back(replace_invalid_utf8(std::string_view(held_).substr(0, whole)));
    held_.erase(0, whole);
  }
  void finish(Strings& out) override { out.push_back(replace_invalid_utf8(held_)); }

 private:
  std::string held_;
};

class ByteLevel final : public Step {
 public:
  void add(std::string text, Strings& out) override { utf8_.add(byte_level_bytes(text), out); }
  void finish(Strings& out) override { utf8_.finish(out); }

 private:
  Utf8 utf8_;
};

class ByteFallback final : public Step {
 public:
  void add(std::string text, Strings& out) override {
    if (const auto byte = fallback_byte(text)) {
      run_.push_back(*byte);
      return;
    }
    finish(out);
    out.push_back(std::move(text));
  }
  void finish(Strings& out) override {
    append_fallback_run(run_, out);
    run_.clear();
  }

 private:
  std::string run_;
};

/// A step that treats each token separately.
class OfToken final : public Step {
 public:
  explicit OfToken(const DecoderStep& step) : step_(step) {}
  void add(std::string text, Strings& out) override {
    if (step_.kind == DecoderStep::Kind::kStrip) {
      out.push_back(stripped(text, step_));
    } else if (step_.kind == DecoderStep::Kind::kReplace) {
      out.push_back(replaced(text, step_.pattern, step_.content));
    } else {
      out.push_back(replaced(text, step_.pattern, first_ && step_.strip_first ? "" : " "));
    }
    first_ = false;
  }

 private:
  const DecoderStep& step_;
  bool first_ = true;
};

/// Replaces in one text that arrives in parts.
class ReplaceInText final : public Step {
 public:
  ReplaceInText(std::string pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void add(std::string text, Strings& out) override {
    held_ += text;
    std::string done;
    std::size_t at = 0;
    for (std::size_t hit = held_.find(pattern_); hit != std::string::npos; hit = held_.find(pattern_, at)) {
      done.append(held_, at, hit - at).append(content_);
      at = hit + pattern_.size();
    }
    // The longest beginning of the pattern at the end of the text may continue.
    std::size_t keep = std::min(pattern_.size() - 1, held_.size() - at);
    while (!std::string_view(held_).ends_with(std::string_view(pattern_).substr(0, keep))) --keep;
    done.append(held_, at, held_.size() - at - keep);
    held_.erase(0, held_.size() - keep);
    out.push_back(std::move(done));
  }
  void finish(Strings& out) override { out.push_back(std::move(held_)); }

 private:
  std::string pattern_;
  std::string content_;
  std::string held_;
};

/// Strips the beginning and the end of one text that arrives in parts.
class StripText final : public Step {
 public:
  explicit StripText(const DecoderStep& step) : step_(step), to_strip_(step.start) {}
  void add(std::string text, Strings& out) override {
    held_ += text;
    const std::string& content = step_.content;
    while (to_strip_ > 0) {
      if (held_.size() < content.size() && content.starts_with(held_)) return;
      if (!held_.starts_with(content))
        to_strip_ = 0;
      else
        held_.erase(0, content.size()), --to_strip_;
    }
    // The part that would be stripped if the text ended here, or a little later.
    const std::size_t keep = std::min(held_.size(), step_.stop * content.size());
    out.push_back(held_.substr(0, held_.size() - keep));
    held_.erase(0, held_.size() - keep);
  }
  void finish(Strings& out) override {
    DecoderStep last = step_;
    last.start = 0;
    out.push_back(stripped(held_, last));
  }

 private:
  const DecoderStep& step_;
  std::size_t to_strip_;
  std::string held_;
};

/// A step without meaning after tokens were joined, where decode() passes it the whole text as one token.
class WholeText final : public Step {
 public:
  explicit WholeText(const DecoderStep& step) : step_(step) {}
  void add(std::string text, Strings& /*out*/) override { held_ += text; }
  void finish(Strings& out) override { out.push_back(decode_tokens({step_}, {std::move(held_)})); }

 private:
  const DecoderStep& step_;
  std::string held_;
};

std::string joined(const Strings& strings) {
  std::string all;
  for (const std::string& part : strings) all += part;
  return all;
}

std::unique_ptr<Step> make_step(const DecoderStep& step, bool joined) {
  using Kind = DecoderStep::Kind;
  switch (step.kind) {
    case Kind::kByteLevel:
      if (joined) return std::make_unique<WholeText>(step);
      return std::make_unique<ByteLevel>();
    case Kind::kByteFallback:
      if (joined) return std::make_unique<WholeText>(step);
      return std::make_unique<ByteFallback>();
    case Kind::kReplace:
      if (joined) return std::make_unique<ReplaceInText>(step.pattern, step.content);
      return std::make_unique<OfToken>(step);
    case Kind::kStrip:
      if (joined) return std::make_unique<StripText>(step);
      return std::make_unique<OfToken>(step);
    case Kind::kMetaspace:
      if (joined) return std::make_unique<ReplaceInText>(step.pattern, step.strip_first ? "" : " ");
      return std::make_unique<OfToken>(step);
    case Kind::kFuse:
      break;
  }
  return nullptr;  // kFuse only changes the input of the next steps
}

}  // namespace

TextStream::TextStream(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(&tokenizer), skip_special_(skip_special) {
  bool joined = false;
  for (const DecoderStep& step : tokenizer.model().parts().decoder) {
    if (auto made = make_step(step, joined)) steps_.push_back(std::move(made));
    joined = joined || step.kind == DecoderStep::Kind::kByteLevel || step.kind == DecoderStep::Kind::kFuse;
  }
  steps_.push_back(std::make_unique<Utf8>());
}

TextStream::TextStream(TextStream&&) noexcept = default;
TextStream& TextStream::operator=(TextStream&&) noexcept = default;
TextStream::~TextStream() = default;

void TextStream::begin_after(std::span<const std::int32_t> ids) {
  std::size_t shown = 0;
  for (const std::int32_t id : ids) shown += add(id).size();
  const std::size_t all = tokenizer_->decode(ids, skip_special_).size();
  foreign_ = all - std::min(all, shown);
}

std::string TextStream::own(std::string text) {
  // Bytes that were held back may become other text together with what follows; a character is never split.
  std::size_t cut = std::min(foreign_, text.size());
  foreign_ -= cut;
  while (cut < text.size() && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) ++cut;
  text.erase(0, cut);
  return text;
}

std::string TextStream::add(std::int32_t id) {
  const TokenizerModel& model = tokenizer_->model();
  const auto token = model.token_text(id, skip_special_);
  if (!token) return {};
  // Without a decoder, tokens are joined by blanks.
  std::string with_blank(model.parts().decoder.empty() && !first_ ? " " : "");
  with_blank += *token;
  first_ = false;
  Strings strings = {std::move(with_blank)};
  for (const auto& step : steps_) {
    Strings out;
    for (std::string& text : strings) step->add(std::move(text), out);
    strings = std::move(out);
  }
  return own(joined(strings));
}

std::string TextStream::finish() {
  Strings strings;
  for (const auto& step : steps_) {
    Strings out;
    for (std::string& text : strings) step->add(std::move(text), out);
    step->finish(out);
    strings = std::move(out);
  }
  return own(joined(strings));
}

}  // namespace knapsaq
