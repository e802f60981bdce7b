#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// A constraint: the matrices whose name (or "block.module", or the last part of the name outside the blocks:
/// "lm_head") matches `pattern` (matches_pattern()) may only take schemes that `relation` allows.
struct Pin {
  enum class Relation : std::uint8_t { equal, at_least, at_most };
  std::string pattern;
  Relation relation = Relation::equal;
  /// equal: a scheme as the menu names it. The method may be omitted, and so may the metadata if the menu has
  /// no scheme of exactly this name ("b4g64" finds hqq:b4g64/m8g128). Otherwise a number of bits.
  std::string scheme;
};

/// "PATTERN=SCHEME", "PATTERN>=BITS", "PATTERN<=BITS" (b1). Throws UsageError.
Pin parse_pin(std::string_view text);
/// The inverse of parse_pin().
std::string to_string(const Pin& pin);

/// The choices of the menu that a constraint allows for a linear that is stored as `schemes`, one for each
/// choice: an equality refers to the menu's name, a bound to the stored bits. Throws UsageError for a scheme
/// that the menu does not have.
std::vector<bool> allowed_choices(const Pin& pin, std::span<const Scheme> menu,
                                  std::span<const Scheme> schemes);

/// Throws the UsageError for a constraint that matches nothing.
[[noreturn]] void refuse_without_match(const Pin& pin);

}  // namespace knapsaq
