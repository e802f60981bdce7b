#include "knapsaq/text/pre_tokenizer.h"

namespace knapsaq {
namespace {

using Behaviour = PreTokenizerStep::Behaviour;

/// Combines the alternating parts and matches of one text according to a Split step's behaviour.
template <class Emit>
class Joiner {
 public:
  Joiner(const PreTokenizerStep& step, Emit& emit) : step_(step), emit_(emit) {}

  void add(std::size_t begin, std::size_t end, bool found) {
    const bool match = found != step_.invert;
    switch (step_.behaviour) {
      case Behaviour::kRemoved:
        if (!match) emit_(begin, end);
        return;
      case Behaviour::kIsolated:
        emit_(begin, end);
        return;
      case Behaviour::kMergedWithPrevious:
        put(begin, end, match && !last_match_);
        break;
      case Behaviour::kMergedWithNext:
        put(begin, end, last_match_ && !match);
        break;
      case Behaviour::kContiguous:
        put(begin, end, match == last_match_);
        break;
    }
    last_match_ = match;
  }

  void finish() {
    if (waits_) emit_(begin_, end_);
    waits_ = false;
  }

 private:
  /// Holds one piece back, because the next one may be joined to it.
  void put(std::size_t begin, std::size_t end, bool join) {
    if (waits_ && join) {
      end_ = end;
      return;
    }
    finish();
    begin_ = begin;
    end_ = end;
    waits_ = true;
  }

  const PreTokenizerStep& step_;
  Emit& emit_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool waits_ = false;
  bool last_match_ = false;
};

template <class Part>
void cut_literal(std::string_view text, std::string_view pattern, Part&& part) {
  std::size_t done = 0;
  for (std::size_t at = text.find(pattern); at != std::string_view::npos; at = text.find(pattern, done)) {
    if (at > done) part(done, at, false);
    part(at, at + pattern.size(), true);
    done = at + pattern.size();
  }
  if (done < text.size()) part(done, text.size(), false);
}

std::string with_metaspaces(const PreTokenizerStep& step, std::string_view text, bool first) {
  std::string out;
  out.reserve(text.size() + text.size() / 2 + step.pattern.size());
  for (const char c : text) {
    if (c == ' ') {
      out.append(step.pattern);
    } else {
      out.push_back(c);
    }
  }
  using Prefix = PreTokenizerStep::Prefix;
  const bool wanted = step.prefix == Prefix::kAlways || (step.prefix == Prefix::kFirst && first);
  if (wanted && !out.starts_with(step.pattern)) out.insert(0, step.pattern);
  return out;
}

}  // namespace

void PreTokenizer::run(std::size_t step, std::string_view text, bool first, RegexScratch& scratch,
                       const Sink& sink) const {
  if (step == steps_.size()) return sink(text, first);
  if (step + 1 == steps_.size()) return apply(steps_[step], text, first, scratch, sink);
  const auto rest = [&](std::string_view piece, bool at_start) {
    run(step + 1, piece, at_start, scratch, sink);
  };
  apply(steps_[step], text, first, scratch,
        {&rest, [](const void* context, std::string_view piece, bool at_start) {
           (*static_cast<decltype(&rest)>(context))(piece, at_start);
         }});
}

void PreTokenizer::apply(const PreTokenizerStep& step, std::string_view text, bool first,
                         RegexScratch& scratch, const Sink& sink) {
  using Kind = PreTokenizerStep::Kind;
  if (step.kind == Kind::kByteLevel) return sink(text, first);
  if (step.kind == Kind::kPrefixSpace) {
    if (text.starts_with(' ')) return sink(text, first);
    std::string prefixed;
    prefixed.reserve(text.size() + 1);
    prefixed.append(" ").append(text);
    return sink(prefixed, first);
  }
  std::string replaced;
  PreTokenizerStep at_metaspace;
  const PreTokenizerStep* split = &step;
  if (step.kind == Kind::kMetaspace) {
    replaced = with_metaspaces(step, text, first);
    if (!step.split) return sink(replaced, first);
    text = replaced;
    at_metaspace.pattern = step.pattern;
    at_metaspace.behaviour = Behaviour::kMergedWithNext;
    split = &at_metaspace;
  }
  auto emit = [&](std::size_t begin, std::size_t end) {
    sink(text.substr(begin, end - begin), first && begin == 0);
  };
  Joiner joiner(*split, emit);
  const auto part = [&](std::size_t begin, std::size_t end, bool match) { joiner.add(begin, end, match); };
  if (split->regex) {
    split->regex->split(text, scratch, part);
  } else {
    cut_literal(text, split->pattern, part);
  }
  joiner.finish();
}

}  // namespace knapsaq
