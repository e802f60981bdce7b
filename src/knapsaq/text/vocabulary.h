#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace knapsaq {

/// Token strings and their ids, in both directions. Ids may have gaps.
class Vocabulary {
 public:
  /// The largest id that a file may use: sixteen times the largest vocabulary in use, so that a false id
  /// cannot make the tables below fill the memory.
  static constexpr std::int64_t kLargestId = (std::int64_t{1} << 24) - 1;

  Vocabulary() = default;
  /// For `tokens` tokens with ids below about 16 times as many: real vocabularies have few gaps, and a small
  /// file cannot create large tables. `where` names the file in errors.
  Vocabulary(std::string where, std::size_t tokens);

  /// Throws InputError for an id that is negative or too large, for one that belongs to another token, and
  /// for a token that has another id.
  void add(std::string_view token, std::int64_t id);

  std::optional<std::int32_t> find(std::string_view token) const;
  /// Empty for an id without a token.
  std::string_view token(std::int32_t id) const;
  bool contains(std::int32_t id) const;
  std::size_t tokens() const { return count_; }
  /// Largest id + 1.
  std::int32_t size() const { return static_cast<std::int32_t>(spans_.size()); }

 private:
  struct Span {
    std::uint64_t begin = 0;
    std::uint32_t length = kHole;
  };
  static constexpr std::uint32_t kHole = 0xFFFFFFFF;

  void reserve(std::size_t tokens);
  std::size_t slot_of(std::string_view token) const;

  std::string where_;
  std::string characters_;            ///< all tokens, one after the other
  std::vector<Span> spans_;           ///< by id
  std::vector<std::uint32_t> slots_;  ///< open addressing; id + 1, 0 is free; a power of two in size
  std::size_t count_ = 0;
  std::int64_t largest_id_ = kLargestId;
};

}  // namespace knapsaq
