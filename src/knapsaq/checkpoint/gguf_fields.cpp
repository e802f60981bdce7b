#include "knapsaq/checkpoint/gguf_fields.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

template <class T>
constexpr bool kIsInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;

template <class T>
std::optional<std::int64_t> as_integer(const T& value) {
  if constexpr (kIsInteger<T>) {
    if (std::in_range<std::int64_t>(value)) return static_cast<std::int64_t>(value);
  }
  return std::nullopt;
}

template <class List>
constexpr bool is_list_of_integers() {
  if constexpr (std::is_same_v<List, std::monostate> || std::is_same_v<List, std::vector<bool>>) {
    return false;
  } else {
    return kIsInteger<typename List::value_type>;
  }
}

/// Nullopt for a list of numbers that differ, or of something else. 0 stands for layers that have none
/// (LFM2's convolutions have no heads).
std::optional<std::int64_t> common_integer(const GgufArray& array) {
  return std::visit(
      [](const auto& list) -> std::optional<std::int64_t> {
        using List = std::decay_t<decltype(list)>;
        if constexpr (is_list_of_integers<List>()) {
          if (list.empty()) return std::nullopt;
          const auto some = std::ranges::find_if(list, [](const auto& one) { return one != 0; });
          const auto& common = some == list.end() ? list.front() : *some;
          if (std::ranges::any_of(list, [&](const auto& one) { return one != 0 && one != common; }))
            return std::nullopt;
          return as_integer(common);
        } else {
          return std::nullopt;
        }
      },
      array);
}

}  // namespace

void GgufFields::fail(std::string_view key, std::string_view reason) const {
  throw InputError(fmt::format("{}: {} {}", where_, in_quotes(key), reason));
}

std::optional<std::int64_t> GgufFields::integer(std::string_view key) const {
  const GgufValue* value = metadata_.find(key);
  if (value == nullptr) return std::nullopt;
  const auto found = std::visit(
      [](const auto& one) {
        if constexpr (std::is_same_v<std::decay_t<decltype(one)>, GgufArray>) {
          return common_integer(one);
        } else {
          return as_integer(one);
        }
      },
      *value);
  if (!found)
    fail(key, std::holds_alternative<GgufArray>(*value)
                  ? "is not the same whole number for every layer, which is not supported"
                  : "is not a whole number");
  return found;
}

std::optional<double> GgufFields::number(std::string_view key) const {
  const GgufValue* value = metadata_.find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* single = std::get_if<float>(value)) return *single;
  if (const auto* wide = std::get_if<double>(value)) return *wide;
  return static_cast<double>(*integer(key));
}

std::optional<bool> GgufFields::flag(std::string_view key) const {
  const GgufValue* value = metadata_.find(key);
  if (value == nullptr) return std::nullopt;
  const auto* found = std::get_if<bool>(value);
  if (found == nullptr) fail(key, "is not true or false");
  return *found;
}

std::optional<std::string> GgufFields::text(std::string_view key) const {
  const GgufValue* value = metadata_.find(key);
  if (value == nullptr) return std::nullopt;
  const auto* found = std::get_if<std::string>(value);
  if (found == nullptr) fail(key, "is not a text");
  return *found;
}

template <class T>
const std::vector<T>* GgufFields::list(std::string_view key, std::string_view kind) const {
  const GgufValue* value = metadata_.find(key);
  if (value == nullptr) return nullptr;
  const auto* array = std::get_if<GgufArray>(value);
  const auto* found = array == nullptr ? nullptr : std::get_if<std::vector<T>>(array);
  if (found == nullptr) fail(key, fmt::format("is not a list of {}", kind));
  return found;
}

const std::vector<std::string>* GgufFields::texts(std::string_view key) const {
  return list<std::string>(key, "texts");
}
const std::vector<float>* GgufFields::floats(std::string_view key) const {
  return list<float>(key, "numbers of type f32");
}
const std::vector<bool>* GgufFields::flags(std::string_view key) const {
  return list<bool>(key, "truth values");
}

std::optional<std::vector<std::int64_t>> GgufFields::integers(std::string_view key) const {
  const GgufValue* value = metadata_.find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* array = std::get_if<GgufArray>(value)) {
    if (const auto* list = std::get_if<std::vector<std::int32_t>>(array))
      return std::vector<std::int64_t>(list->begin(), list->end());
    if (const auto* list = std::get_if<std::vector<std::uint32_t>>(array))
      return std::vector<std::int64_t>(list->begin(), list->end());
  }
  fail(key, "is not a list of whole numbers of 32 bits");
}

std::int64_t GgufFields::required_integer(std::string_view key) const {
  if (const auto found = integer(key)) return *found;
  fail(key, "is missing in the metadata");
}
double GgufFields::required_number(std::string_view key) const {
  if (const auto found = number(key)) return *found;
  fail(key, "is missing in the metadata");
}
std::string GgufFields::required_text(std::string_view key) const {
  if (auto found = text(key)) return *std::move(found);
  fail(key, "is missing in the metadata");
}

}  // namespace knapsaq
