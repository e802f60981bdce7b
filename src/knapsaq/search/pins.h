#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// A pin: the matrices whose name (or "block.module", or the last part of the name outside the blocks:
/// "lm_head") match `pattern` (matches_pattern()) may only take schemes that `relation` allows.
struct Pin {
  enum class Relation : std::uint8_t { equal, at_least, at_most };
  std::string pattern;
  Relation relation = Relation::equal;
  /// equal: as the menu names it; the method may be left out, and the metadata too where the menu has no
  /// scheme that is called just so ("b4g64" finds hqq:b4g64/m8g128). Otherwise a number of bits.
  std::string scheme;
};

/// "PATTERN=SCHEME", "PATTERN>=BITS", "PATTERN<=BITS" (b1). Throws UsageError.
Pin parse_pin(std::string_view text);
/// What parse_pin() reads.
std::string to_string(const Pin& pin);

/// Which choices of the menu a pin allows a linear that is stored as `schemes` say, one for each choice: an
/// equality is about the menu's name, a bound about the bits that are stored. Throws UsageError for a scheme
/// that the menu does not have.
std::vector<bool> allowed_choices(const Pin& pin, std::span<const Scheme> menu,
                                  std::span<const Scheme> schemes);

/// Throws the UsageError for a pin that matches nothing.
[[noreturn]] void refuse_without_match(const Pin& pin);

}  // namespace knapsaq
