#include "knapsaq/text/vocabulary.h"

#include <algorithm>
#include <functional>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {

Vocabulary::Vocabulary(std::string where, std::size_t tokens) : where_(std::move(where)) {
  // The constants allow for a few tokens with ids far apart.
  const std::uint64_t sparsest = std::uint64_t{tokens} * 16 + 1024;
  largest_id_ = static_cast<std::int64_t>(std::min<std::uint64_t>(sparsest, largest_id_));
  reserve(tokens);
}

void Vocabulary::reserve(std::size_t tokens) {
  std::size_t wanted = 64;
  while (wanted < tokens * 2) wanted *= 2;
  if (wanted <= slots_.size()) return;
  slots_.assign(wanted, 0);
  for (std::size_t id = 0; id < spans_.size(); ++id) {
    if (spans_[id].length == kHole) continue;
    slots_[slot_of(token(static_cast<std::int32_t>(id)))] = static_cast<std::uint32_t>(id) + 1;
  }
}

std::size_t Vocabulary::slot_of(std::string_view text) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = std::hash<std::string_view>{}(text)&mask;
  while (slots_[slot] != 0 && token(static_cast<std::int32_t>(slots_[slot] - 1)) != text)
    slot = (slot + 1) & mask;
  return slot;
}

void Vocabulary::add(std::string_view text, std::int64_t id) {
  if (id < 0 || id > largest_id_) {
    throw InputError(fmt::format("{}: token {} has the id {}, which is not in 0..{}; the file is damaged",
                                 where_, in_quotes(text), id, largest_id_));
  }
  reserve(count_ + 1);
  const auto index = static_cast<std::size_t>(id);
  const std::size_t slot = slot_of(text);
  if (slots_[slot] != 0) {
    if (slots_[slot] - 1 == index) return;
    throw InputError(fmt::format("{}: token {} has two ids, {} and {}; the file is damaged", where_,
                                 in_quotes(text), slots_[slot] - 1, id));
  }
  if (index >= spans_.size()) spans_.resize(index + 1);
  if (spans_[index].length != kHole) {
    throw InputError(fmt::format("{}: the id {} belongs to two tokens, {} and {}; the file is damaged",
                                 where_, id, in_quotes(token(static_cast<std::int32_t>(id))),
                                 in_quotes(text)));
  }
  spans_[index] = {characters_.size(), static_cast<std::uint32_t>(text.size())};
  characters_.append(text);
  slots_[slot] = static_cast<std::uint32_t>(index) + 1;
  ++count_;
}

std::optional<std::int32_t> Vocabulary::find(std::string_view text) const {
  if (slots_.empty()) return std::nullopt;
  const std::uint32_t found = slots_[slot_of(text)];
  if (found == 0) return std::nullopt;
  return static_cast<std::int32_t>(found - 1);
}

bool Vocabulary::contains(std::int32_t id) const {
  return id >= 0 && static_cast<std::size_t>(id) < spans_.size() &&
         spans_[static_cast<std::size_t>(id)].length != kHole;
}

std::string_view Vocabulary::token(std::int32_t id) const {
  if (!contains(id)) return {};
  const Span& span = spans_[static_cast<std::size_t>(id)];
  return std::string_view(characters_).substr(span.begin, span.length);
}

}  // namespace knapsaq
