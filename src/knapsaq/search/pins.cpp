#include "knapsaq/search/pins.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
  throw UsageError(
      fmt::format("{} is not a pin ({}): write PATTERN=SCHEME, PATTERN>=BITS or PATTERN<=BITS, e.g. "
                  "'*.down_proj>=3'",
                  in_quotes(text), why));
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

/// A finite number above zero that is all of the text.
std::optional<double> bits_of(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value) || value <= 0)
    return std::nullopt;
  return value;
}

std::string_view without_method(std::string_view name) {
  const std::size_t colon = name.find(':');
  return colon == name.npos ? name : name.substr(colon + 1);
}

/// The choices named by `name`: those with exactly this name, or else those with this name except for their
/// metadata.
std::vector<bool> named(std::string_view name, std::span<const Scheme> menu) {
  for (const bool metadata : {true, false}) {
    std::vector<bool> found(menu.size());
    for (std::size_t c = 0; c < menu.size(); ++c) {
      const std::string text = to_string(menu[c]);
      std::string_view full = text;
      if (!metadata) full = full.substr(0, full.find('/'));
      found[c] = name == full || name == without_method(full);
    }
    if (std::ranges::find(found, true) != found.end()) return found;
  }
  return {};
}

/// The menu, for a message.
std::string list(std::span<const Scheme> menu) {
  constexpr std::size_t kShown = 16;  // more than the paper's twelve; a line of text all the same
  std::string text;
  for (const Scheme& scheme : menu.first(std::min(menu.size(), kShown)))
    text += (text.empty() ? "" : ", ") + to_string(scheme);
  if (menu.size() > kShown) text += fmt::format(" and {} more", menu.size() - kShown);
  return text;
}

}  // namespace

Pin parse_pin(std::string_view text) {
  const std::size_t at = text.find_first_of("=<>");
  if (at == text.npos) refuse(text, "=, >= or <= is missing");
  Pin pin;
  std::size_t after = at + 1;
  if (text[at] != '=') {
    if (after == text.size() || text[after] != '=') refuse(text, "bounds are >= and <=");
    pin.relation = text[at] == '>' ? Pin::Relation::at_least : Pin::Relation::at_most;
    ++after;
  }
  pin.pattern = trimmed(text.substr(0, at));
  pin.scheme = trimmed(text.substr(after));
  if (pin.pattern.empty()) refuse(text, "the pattern of names is missing");
  if (pin.scheme.empty()) refuse(text, "nothing follows the sign");
  if (pin.relation != Pin::Relation::equal && !bits_of(pin.scheme))
    refuse(text, "a bound is a number of bits above 0");
  return pin;
}

std::string to_string(const Pin& pin) {
  constexpr std::array<std::string_view, 3> kSigns = {"=", ">=", "<="};
  return fmt::format("{}{}{}", pin.pattern, kSigns[static_cast<std::size_t>(pin.relation)], pin.scheme);
}

std::vector<bool> allowed_choices(const Pin& pin, std::span<const Scheme> menu,
                                  std::span<const Scheme> schemes) {
  if (pin.relation == Pin::Relation::equal) {
    std::vector<bool> allowed = named(pin.scheme, menu);
    if (allowed.empty())
      throw UsageError(fmt::format("pin {}: the menu has no scheme {}; it has {}", in_quotes(to_string(pin)),
                                   in_quotes(pin.scheme), list(menu)));
    return allowed;
  }
  const std::optional<double> bits = bits_of(pin.scheme);
  if (!bits) refuse(to_string(pin), "a bound is a number of bits above 0");
  std::vector<bool> allowed(schemes.size());
  for (std::size_t c = 0; c < schemes.size(); ++c)
    allowed[c] =
        pin.relation == Pin::Relation::at_least ? schemes[c].bits >= *bits : schemes[c].bits <= *bits;
  return allowed;
}

void refuse_without_match(const Pin& pin) {
  throw UsageError(fmt::format(
      "pin {}: nothing that is chosen about has such a name; names are like "
      "model.layers.3.self_attn.q_proj, 3.self_attn.q_proj, embed_tokens or lm_head, and * stands for "
      "any characters",
      in_quotes(to_string(pin))));
}

}  // namespace knapsaq
