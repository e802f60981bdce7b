#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/text/vocabulary.h"

namespace knapsaq {

/// Two adjacent symbols that become one. Of all rules that apply to a piece, the one with the smallest rank
/// is applied first, and of equal ones the leftmost.
struct MergeRule {
  std::int32_t left;
  std::int32_t right;
  std::int32_t result;
  std::uint32_t rank;
};

struct BpeOptions {
  bool byte_level = false;  ///< symbols are bytes, written in ByteAlphabet; otherwise characters
  bool byte_fallback =
      false;  ///< a symbol that the vocabulary lacks becomes its UTF-8 bytes, tokens "<0x00>".."<0xFF>"
  bool fuse_unknown = false;   ///< adjacent unknown symbols become one unknown token
  bool ignore_merges = false;  ///< a piece that is in the vocabulary is that token, whatever the merges say
  std::optional<std::int32_t> unknown;  ///< if absent, unknown symbols vanish
};

/// Working memory of one thread for encoding, never used by two threads at the same time. Holds the ids of
/// pieces seen before.
class BpeScratch {
 public:
  BpeScratch() : cache_(kEntries) {}

 private:
  friend class Bpe;

  /// 97% of the pieces of English text have up to 16 bytes and up to 3 ids; 32 bytes are half a cache line.
  static constexpr std::size_t kKeyBytes = 16;
  static constexpr std::size_t kKeyIds = 3;
  /// 1 MiB: the L2 cache of a current core, and few collisions with the 10^4 frequent words of a
  /// language.
  static constexpr std::size_t kEntries = std::size_t{1} << 15;

  struct Entry {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    std::array<std::int32_t, kKeyIds> ids{};
    std::uint8_t length = 0;  ///< 0 marks a free entry
    std::uint8_t count = 0;
  };

  std::vector<Entry> cache_;
  std::vector<std::int32_t> symbols_;
  std::vector<std::uint32_t> previous_;
  std::vector<std::uint32_t> next_;
  std::vector<std::uint64_t> queue_;
};

/// Byte-pair encoding of pieces of text, like the BPE model of Hugging Face's tokenizers (without dropout and
/// without subword affixes).
class Bpe {
 public:
  Bpe() = default;
  Bpe(Vocabulary vocabulary, const std::vector<MergeRule>& merges, const BpeOptions& options);

  const Vocabulary& vocabulary() const { return vocabulary_; }
  const BpeOptions& options() const { return options_; }
  /// The merges by rank; a pair that was listed twice appears once.
  std::vector<MergeRule> merges() const;

  /// Appends the ids of `piece`, which is well-formed UTF-8 unless options().byte_level. Takes time O(n log
  /// n) in the length of the piece.
  void encode(std::string_view piece, BpeScratch& scratch, std::vector<std::int32_t>& ids) const;

  /// The character before which a text may be split without changing any id, if the character before the
  /// split is a different one: SentencePiece's word boundary, U+2581, if no merge crosses it; otherwise
  /// nullopt.
  bool may_cut_before_metaspace() const { return may_cut_; }

 private:
  struct Slot {
    std::uint64_t pair = kFree;  ///< left << 32 | right
    std::uint32_t rank = 0;
    std::int32_t result = 0;
  };
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};

  const Slot* find_merge(std::int32_t left, std::int32_t right) const;
  void append_symbols(std::string_view piece, std::vector<std::int32_t>& symbols) const;
  void encode_new(std::string_view piece, BpeScratch& scratch, std::vector<std::int32_t>& ids) const;
  void merge_short(std::int32_t* symbols, std::size_t count, std::vector<std::int32_t>& ids) const;
  void merge_long(std::int32_t* symbols, std::size_t count, BpeScratch& scratch,
                  std::vector<std::int32_t>& ids) const;
  bool may_touch(std::int32_t left, std::int32_t right) const;
  void learn_touching(const std::vector<MergeRule>& merges);

  Vocabulary vocabulary_;
  BpeOptions options_;
  std::vector<Slot> merges_;   ///< open addressing, at most half full
  unsigned merge_shift_ = 64;  ///< 64 - log2(merges_.size())
  std::array<std::int32_t, 256>
      byte_symbols_{};  ///< with byte_level of every byte, otherwise of ASCII; -1 if none
  std::array<std::int32_t, 256> fallback_{};  ///< ids of "<0x00>".."<0xFF>", -1 if none
  Vocabulary pieces_;  ///< byte_level with ignore_merges: the vocabulary, spelled in bytes
  /// Hashed set of pairs (last symbol of a merge's left, first symbol of its right): the pairs between which
  /// a merge can happen.
  std::vector<std::uint64_t> touching_;
  bool may_cut_ = false;
};

}  // namespace knapsaq
