#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace knapsaq {

/// A token that is searched for in the text itself, before any other step.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool special = false;      ///< omitted when text is decoded for display
  bool normalized = false;   ///< searched for in the normalised text, not in the original
  bool strip_left = false;   ///< absorbs the white space before it
  bool strip_right = false;  ///< absorbs the white space after it
  bool single_word = false;  ///< not next to a letter, a digit or a mark
  /// Its own text is not normalised before the search in normalised text: a user-defined symbol of
  /// SentencePiece. Only with `normalized`.
  bool verbatim = false;
};

/// Finds tokens in text: the leftmost one, the longest of several at one place, continuing after its end.
class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  /// Tokens with an empty text are never found. `text_of(token)` is the text to search for.
  template <class TextOf>
  AddedTokenFinder(std::span<const AddedToken> tokens, TextOf&& text_of) {
    for (const AddedToken& token : tokens) add(text_of(token), token);
  }

  /// Splits `text` into tokens and the parts between them, in order: part(begin, end, const AddedToken*),
  /// nullptr for a part between tokens. No part is empty.
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
    std::size_t resume = 0;             ///< where the search continues
    const AddedToken* token = nullptr;  ///< nullptr: there is one, but it must be a separate word and is not
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
  std::vector<Node> nodes_{1};  ///< a trie, root first
  std::array<bool, 256> starts_{};
};

}  // namespace knapsaq
