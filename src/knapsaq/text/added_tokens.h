#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace knapsaq {

/// A token that is looked for in the text itself, before anything else happens to it.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool special = false;      ///< left out when text is decoded for people
  bool normalized = false;   ///< looked for in the normalised text instead of the original
  bool strip_left = false;   ///< takes the white space before it along
  bool strip_right = false;  ///< takes the white space behind it along
  bool single_word = false;  ///< not where a letter, a digit or a mark stands beside it
  /// Its own text is not normalised before it is looked for in normalised text: a user-defined symbol of
  /// SentencePiece. Only with `normalized`.
  bool verbatim = false;
};

/// Finds tokens in text: the leftmost one, of several at one place the longest, and on from its end.
class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  /// `tokens` of which those with an empty text are never found; `text_of(token)` is what is looked for.
  template <class TextOf>
  AddedTokenFinder(std::span<const AddedToken> tokens, TextOf&& text_of) {
    for (const AddedToken& token : tokens) add(text_of(token), token);
  }

  /// Splits `text` into tokens and the parts between them, in order: part(begin, end, const AddedToken*),
  /// nullptr for what lies between. No part is empty.
  template <class Function>
  void split(std::string_view text, Function&& part) const {
    std::size_t done = 0;
    Found found;
    for (std::size_t at = 0; find(text, at, done, found); at = found.resume) {
      if (found.token == nullptr) continue;
      if (found.begin > done) part(done, found.begin, nullptr);
      part(found.begin, found.end, found.token);
      done = found.end;
    }
    if (done < text.size()) part(done, text.size(), nullptr);
  }

 private:
  struct Found {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::size_t resume = 0;  ///< where to look on
    const AddedToken* token =
        nullptr;  ///< nullptr: there is one, but it must be a word of its own and is not
  };
  struct Node {
    std::uint32_t child = 0;    ///< first child, 0 is none
    std::uint32_t sibling = 0;  ///< next child of the same parent
    std::int32_t token = -1;
    char byte = 0;
  };

  void add(const std::string& text, const AddedToken& token);
  bool find(std::string_view text, std::size_t from, std::size_t done, Found& found) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_{1};  ///< a trie, its root first
  std::array<bool, 256> starts_{};
};

}  // namespace knapsaq
