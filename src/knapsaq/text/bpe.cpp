#include "knapsaq/text/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>

#include <fmt/format.h>

#include "knapsaq/base/utf8.h"
#include "knapsaq/text/byte_alphabet.h"

namespace knapsaq {
namespace {

/// Fibonacci hashing: 2^64 over the golden ratio spreads consecutive keys.
constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15;
/// Longest sequence of symbols that is merged by scanning for the best pair; above, a heap is faster
/// (measured: equal at 48..96).
constexpr std::size_t kShortRun = 64;
/// 2^20 bits, 128 KiB: with the 10^4..10^5 pairs of real vocabularies, there are few false positives, which
/// only cost time.
constexpr unsigned kTouchingBits = 20;
constexpr std::string_view kMetaspace = "\xE2\x96\x81";
constexpr std::uint32_t kNone = 0xFFFFFFFF;

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

std::uint64_t load(const char* bytes, std::size_t count) {
  std::uint64_t word = 0;
  std::memcpy(&word, bytes, count);
  return word;
}

/// The first character of a non-empty token.
std::string_view first_character(std::string_view token) { return token.substr(0, utf8_length(token[0])); }

std::string_view last_character(std::string_view token) {
  std::size_t begin = token.size() - 1;
  while (begin > 0 && (static_cast<unsigned char>(token[begin]) & 0xC0) == 0x80) --begin;
  return token.substr(begin);
}

}  // namespace

Bpe::Bpe(Vocabulary vocabulary, const std::vector<MergeRule>& merges, const BpeOptions& options)
    : vocabulary_(std::move(vocabulary)), options_(options) {
  merges_.resize(std::bit_ceil(std::max<std::size_t>(merges.size() * 2, 2)));
  merge_shift_ = 64U - static_cast<unsigned>(std::countr_zero(merges_.size()));
  for (const MergeRule& merge : merges) {
    const std::uint64_t pair = pair_of(merge.left, merge.right);
    std::size_t slot = pair * kGolden >> merge_shift_;
    while (merges_[slot].pair != kFree && merges_[slot].pair != pair)
      slot = (slot + 1) & (merges_.size() - 1);
    // A pair that a file lists twice gets its last rank, as in Hugging Face's reader.
    merges_[slot] = {pair, merge.rank, merge.result};
  }
  const ByteAlphabet& alphabet = ByteAlphabet::instance();
  for (unsigned byte = 0; byte < 256; ++byte) {
    fallback_[byte] = vocabulary_.find(fmt::format("<0x{:02X}>", byte)).value_or(-1);
    byte_symbols_[byte] = -1;
    if (options_.byte_level) {
      byte_symbols_[byte] =
          vocabulary_.find(alphabet.character(static_cast<unsigned char>(byte))).value_or(-1);
    } else if (byte < 0x80) {
      byte_symbols_[byte] = vocabulary_.find(std::string(1, static_cast<char>(byte))).value_or(-1);
    }
  }
  if (options_.byte_level && options_.ignore_merges) {
    // Ids are those of the vocabulary, so the same gaps are allowed.
    pieces_ = Vocabulary("", static_cast<std::size_t>(vocabulary_.size()));
    for (std::int32_t id = 0; id < vocabulary_.size(); ++id) {
      if (!vocabulary_.contains(id)) continue;
      const auto bytes = alphabet.bytes(vocabulary_.token(id));
      if (bytes) pieces_.add(*bytes, id);
    }
  }
  learn_touching(merges);
}

std::vector<MergeRule> Bpe::merges() const {
  std::vector<MergeRule> merges;
  for (const Slot& slot : merges_) {
    if (slot.pair == kFree) continue;
    merges.push_back({.left = static_cast<std::int32_t>(slot.pair >> 32),
                      .right = static_cast<std::int32_t>(slot.pair & 0xFFFFFFFF),
                      .result = slot.result,
                      .rank = slot.rank});
  }
  std::ranges::sort(merges, {}, &MergeRule::rank);
  return merges;
}

void Bpe::learn_touching(const std::vector<MergeRule>& merges) {
  touching_.assign((std::size_t{1} << kTouchingBits) / 64, 0);
  const auto metaspace = vocabulary_.find(kMetaspace);
  const bool complete =
      options_.unknown || std::none_of(fallback_.begin(), fallback_.end(), [](auto id) { return id < 0; });
  // If a symbol can vanish, its neighbours become adjacent although the text has something between them.
  may_cut_ = !options_.byte_level && !options_.ignore_merges && metaspace &&
             (options_.byte_fallback || options_.unknown) && complete;
  for (const MergeRule& merge : merges) {
    const std::string_view left = vocabulary_.token(merge.left);
    const std::string_view right = vocabulary_.token(merge.right);
    if (left.empty() || right.empty()) continue;
    const auto last = vocabulary_.find(last_character(left));
    const auto first = vocabulary_.find(first_character(right));
    // The unknown token and byte tokens are symbols although their spelling has several characters.
    for (const std::int32_t l : {last.value_or(merge.left), merge.left}) {
      for (const std::int32_t r : {first.value_or(merge.right), merge.right}) {
        const std::uint64_t bit = pair_of(l, r) * kGolden >> (64 - kTouchingBits);
        touching_[bit / 64] |= std::uint64_t{1} << bit % 64;
      }
    }
    if (first == metaspace && last != metaspace) may_cut_ = false;
  }
}

bool Bpe::may_touch(std::int32_t left, std::int32_t right) const {
  const std::uint64_t bit = pair_of(left, right) * kGolden >> (64 - kTouchingBits);
  return (touching_[bit / 64] >> bit % 64 & 1) != 0;
}

const Bpe::Slot* Bpe::find_merge(std::int32_t left, std::int32_t right) const {
  const std::uint64_t pair = pair_of(left, right);
  std::size_t slot = pair * kGolden >> merge_shift_;
  while (merges_[slot].pair != pair) {
    if (merges_[slot].pair == kFree) return nullptr;
    slot = (slot + 1) & (merges_.size() - 1);
  }
  return &merges_[slot];
}

void Bpe::append_symbols(std::string_view piece, std::vector<std::int32_t>& symbols) const {
  bool unknown_waits = false;
  const auto flush = [&] {
    if (unknown_waits) symbols.push_back(*options_.unknown);
    unknown_waits = false;
  };
  std::size_t length = 1;
  for (std::size_t at = 0; at < piece.size(); at += length) {
    const auto byte = static_cast<unsigned char>(piece[at]);
    std::int32_t symbol = byte_symbols_[byte];
    std::string_view character = piece.substr(at, 1);
    if (options_.byte_level) {
      if (symbol < 0) character = ByteAlphabet::instance().character(byte);
    } else {
      length = utf8_length(piece[at]);
      character = piece.substr(at, length);
      if (length > 1) symbol = vocabulary_.find(character).value_or(-1);
    }
    if (symbol >= 0) {
      flush();
      symbols.push_back(symbol);
      continue;
    }
    if (options_.byte_fallback) {
      const auto known = [&](char c) { return fallback_[static_cast<unsigned char>(c)] >= 0; };
      if (std::all_of(character.begin(), character.end(), known)) {
        // A waiting unknown symbol stays after these bytes, as in Hugging Face's tokenizers.
        for (const char c : character) symbols.push_back(fallback_[static_cast<unsigned char>(c)]);
        continue;
      }
    }
    if (!options_.unknown) continue;
    if (!options_.fuse_unknown) flush();
    unknown_waits = true;
  }
  flush();
}

void Bpe::encode(std::string_view piece, BpeScratch& scratch, std::vector<std::int32_t>& ids) const {
  const std::size_t length = piece.size();
  if (length == 0) return;
  if (length > BpeScratch::kKeyBytes) {
    encode_new(piece, scratch, ids);
    return;
  }
  // The first and the last eight bytes (they overlap) and the length distinguish pieces of up to 16 bytes.
  const char* bytes = piece.data();
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  if (length >= 8) {
    first = load(bytes, 8);
    last = load(bytes + length - 8, 8);
  } else if (length >= 4) {
    first = load(bytes, 4) | load(bytes + length - 4, 4) << 32;
  } else {
    first = load(bytes, 1) | load(bytes + length / 2, 1) << 8 | load(bytes + length - 1, 1) << 16;
  }
  const std::uint64_t hash = ((first ^ std::rotl(last, 23)) + length) * kGolden;
  BpeScratch::Entry& entry =
      scratch.cache_[(hash ^ hash >> 29) * kGolden >> (64 - std::countr_zero(BpeScratch::kEntries))];
  if (entry.length == length && entry.first == first && entry.last == last) {
    for (std::size_t i = 0; i < entry.count; ++i) ids.push_back(entry.ids[i]);
    return;
  }
  const std::size_t before = ids.size();
  encode_new(piece, scratch, ids);
  const std::size_t count = ids.size() - before;
  if (count > BpeScratch::kKeyIds) return;
  entry.first = first;
  entry.last = last;
  entry.length = static_cast<std::uint8_t>(length);
  entry.count = static_cast<std::uint8_t>(count);
  std::copy_n(ids.end() - static_cast<std::ptrdiff_t>(count), count, entry.ids.begin());
}

void Bpe::encode_new(std::string_view piece, BpeScratch& scratch, std::vector<std::int32_t>& ids) const {
  if (options_.ignore_merges) {
    const auto whole = (options_.byte_level ? pieces_ : vocabulary_).find(piece);
    if (whole) {
      ids.push_back(*whole);
      return;
    }
  }
  std::vector<std::int32_t>& symbols = scratch.symbols_;
  symbols.clear();
  append_symbols(piece, symbols);
  if (symbols.size() <= kShortRun) {
    merge_short(symbols.data(), symbols.size(), ids);
    return;
  }
  std::size_t begin = 0;
  for (std::size_t end = 1; end <= symbols.size(); ++end) {
    if (end < symbols.size() && may_touch(symbols[end - 1], symbols[end])) continue;
    if (end - begin <= kShortRun) {
      merge_short(symbols.data() + begin, end - begin, ids);
    } else {
      merge_long(symbols.data() + begin, end - begin, scratch, ids);
    }
    begin = end;
  }
}

void Bpe::merge_short(std::int32_t* symbols, std::size_t count, std::vector<std::int32_t>& ids) const {
  // ranks[i] and results[i] are those of the merge of symbols i and i + 1.
  std::array<std::uint32_t, kShortRun> ranks;
  std::array<std::int32_t, kShortRun> results;
  const auto look_up = [&](std::size_t i) {
    const Slot* merge = i + 1 < count ? find_merge(symbols[i], symbols[i + 1]) : nullptr;
    ranks[i] = merge != nullptr ? merge->rank : kNone;
    results[i] = merge != nullptr ? merge->result : 0;
  };
  for (std::size_t i = 0; i < count; ++i) look_up(i);
  while (count > 1) {
    const auto* best = std::min_element(ranks.data(), ranks.data() + count - 1);
    if (*best == kNone) break;
    const auto at = static_cast<std::size_t>(best - ranks.data());
    symbols[at] = results[at];
    const std::size_t moved = count - at - 2;
    std::memmove(symbols + at + 1, symbols + at + 2, moved * sizeof(symbols[0]));
    std::memmove(ranks.data() + at + 1, ranks.data() + at + 2, moved * sizeof(ranks[0]));
    std::memmove(results.data() + at + 1, results.data() + at + 2, moved * sizeof(results[0]));
    --count;
    look_up(at);
    if (at > 0) look_up(at - 1);
  }
  ids.insert(ids.end(), symbols, symbols + count);
}

void Bpe::merge_long(std::int32_t* symbols, std::size_t count, BpeScratch& scratch,
                     std::vector<std::int32_t>& ids) const {
  // A heap of rank << 32 | position. Entries become stale when a neighbour is merged away. The pair now at
  // the position then has another rank, or none, and the entry is dropped.
  std::vector<std::uint32_t>& previous = scratch.previous_;
  std::vector<std::uint32_t>& next = scratch.next_;
  std::vector<std::uint64_t>& queue = scratch.queue_;
  previous.resize(count);
  next.resize(count);
  queue.clear();
  const auto rank_at = [&](std::uint32_t at) -> const Slot* {
    if (at == kNone || symbols[at] < 0 || next[at] == kNone) return nullptr;
    return find_merge(symbols[at], symbols[next[at]]);
  };
  for (std::size_t i = 0; i < count; ++i) {
    previous[i] = i == 0 ? kNone : static_cast<std::uint32_t>(i - 1);
    next[i] = i + 1 == count ? kNone : static_cast<std::uint32_t>(i + 1);
    const Slot* merge = rank_at(static_cast<std::uint32_t>(i));
    if (merge != nullptr) queue.push_back(std::uint64_t{merge->rank} << 32 | i);
  }
  std::make_heap(queue.begin(), queue.end(), std::greater<>());
  const auto push = [&](std::uint32_t at) {
    const Slot* merge = rank_at(at);
    if (merge == nullptr) return;
    queue.push_back(std::uint64_t{merge->rank} << 32 | at);
    std::push_heap(queue.begin(), queue.end(), std::greater<>());
  };
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    const std::uint64_t top = queue.back();
    queue.pop_back();
    const auto at = static_cast<std::uint32_t>(top);
    const Slot* merge = rank_at(at);
    if (merge == nullptr || merge->rank != top >> 32) continue;
    const std::uint32_t gone = next[at];
    symbols[at] = merge->result;
    symbols[gone] = -1;
    next[at] = next[gone];
    if (next[gone] != kNone) previous[next[gone]] = at;
    push(at);
    push(previous[at]);
  }
  for (std::uint32_t at = 0; at != kNone; at = next[at]) ids.push_back(symbols[at]);
}

}  // namespace knapsaq
