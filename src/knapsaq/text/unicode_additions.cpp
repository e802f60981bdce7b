#include "knapsaq/text/unicode_additions.h"

#include <algorithm>
#include <iterator>

#include "knapsaq/base/utf8.h"

namespace knapsaq {
namespace {

struct Addition {
  char32_t first;
  char32_t last;
  char32_t stand_in;
};

struct Barrier {
  char32_t first;
  char32_t last;
};

#include "knapsaq/text/unicode_additions.inc"

template <class Range, std::size_t kCount>
const Range* find(const Range (&ranges)[kCount], char32_t code_point) {
  const auto* after = std::upper_bound(std::begin(ranges), std::end(ranges), code_point,
                                       [](char32_t c, const Range& range) { return c < range.first; });
  if (after == std::begin(ranges)) return nullptr;
  const Range* range = after - 1;
  return code_point <= range->last ? range : nullptr;
}

}  // namespace

std::string_view replace_unicode_additions(std::string_view text, std::string& buffer) {
  // All additions have at least three bytes; most text costs one comparison per byte.
  constexpr unsigned char kFirstLead = 0xE0;
  bool copied = false;
  std::size_t length = 1;
  for (std::size_t at = 0; at < text.size(); at += length) {
    length = 1;
    if (static_cast<unsigned char>(text[at]) < kFirstLead) continue;
    const Addition* addition = find(kAdditions, utf8_decode(text, at, length));
    if (addition == nullptr) continue;
    if (!copied) buffer.assign(text);
    copied = true;
    std::string stand_in;
    append_utf8(stand_in, addition->stand_in);
    buffer.replace(at, length, stand_in);
  }
  return copied ? std::string_view(buffer) : text;
}

bool is_normalization_barrier(char32_t code_point) {
  return code_point >= kBarriers[0].first && find(kBarriers, code_point) != nullptr;
}

}  // namespace knapsaq
