#include "knapsaq/text/added_tokens.h"

#include <algorithm>

#include <utf8proc.h>

#include "knapsaq/base/utf8.h"

namespace knapsaq {
namespace {

/// White_Space of Unicode.
bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

/// \w of Unicode's technical standard 18: alphabetic, marks, decimal digits, connectors, joiners.
bool is_word(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      break;
  }
  // Circled and squared letters, which are symbols but alphabetic, and the two joiners.
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
         (c >= 0x1F170 && c <= 0x1F189) || c == 0x200C || c == 0x200D;
}

/// Where the character that ends at `end` begins.
std::size_t previous_character(std::string_view text, std::size_t end) {
  std::size_t at = end - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

char32_t character_at(std::string_view text, std::size_t at) {
  std::size_t length = 0;
  return utf8_decode(text, at, length);
}

}  // namespace

void AddedTokenFinder::add(const std::string& text, const AddedToken& token) {
  if (text.empty()) return;
  starts_[static_cast<unsigned char>(text[0])] = true;
  std::uint32_t node = 0;
  for (const char byte : text) {
    std::uint32_t child = nodes_[node].child;
    while (child != 0 && nodes_[child].byte != byte) child = nodes_[child].sibling;
    if (child == 0) {
      child = static_cast<std::uint32_t>(nodes_.size());
      nodes_.push_back({.child = 0, .sibling = nodes_[node].child, .token = -1, .byte = byte});
      nodes_[node].child = child;
    }
    node = child;
  }
  if (nodes_[node].token >= 0) return;
  nodes_[node].token = static_cast<std::int32_t>(tokens_.size());
  tokens_.push_back(token);
}

bool AddedTokenFinder::find(std::string_view text, std::size_t from, std::size_t done, Found& found) const {
  if (tokens_.empty()) return false;
  const AddedToken* token = nullptr;
  std::size_t begin = from;
  std::size_t end = 0;
  for (; begin < text.size(); ++begin) {
    if (!starts_[static_cast<unsigned char>(text[begin])]) continue;
    std::uint32_t node = 0;
    for (std::size_t at = begin; at < text.size(); ++at) {
      node = nodes_[node].child;
      while (node != 0 && nodes_[node].byte != text[at]) node = nodes_[node].sibling;
      if (node == 0) break;
      if (nodes_[node].token < 0) continue;
      token = &tokens_[static_cast<std::size_t>(nodes_[node].token)];
      end = at + 1;
    }
    if (token != nullptr) break;
  }
  if (token == nullptr) return false;
  found = {.begin = begin, .end = end, .resume = end, .token = token};
  if (token->single_word) {
    const bool left = begin > 0 && is_word(character_at(text, previous_character(text, begin)));
    const bool right = end < text.size() && is_word(character_at(text, end));
    if (left || right) {
      found.token = nullptr;
      return true;
    }
  }
  if (token->strip_left) {
    while (found.begin > 0) {
      const std::size_t before = previous_character(text, found.begin);
      if (before < done || !is_space(character_at(text, before))) break;
      found.begin = before;
    }
    found.begin = std::max(found.begin, std::min(done, begin));
  }
  if (token->strip_right) {
    while (found.end < text.size() && is_space(character_at(text, found.end)))
      found.end += utf8_length(text[found.end]);
  }
  return true;
}

}  // namespace knapsaq
