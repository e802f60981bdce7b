#include "knapsaq/eval/tasks/fields.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq::task_fields {
namespace {

/// The text of a number, a string or a truth value that may be an index.
std::string index_text(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "1" : "0";
  return value.is_number_integer() ? value.dump() : std::string("?");
}

}  // namespace

bool has(const nlohmann::json& object, std::string_view name) { return object.contains(name); }

const std::string& text(const nlohmann::json& object, std::string_view name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string())
    throw InputError(fmt::format("there is no string '{}'", name));
  return found->get_ref<const std::string&>();
}

std::vector<std::string> texts(const nlohmann::json& object, std::string_view name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_array() ||
      !std::ranges::all_of(*found, [](const nlohmann::json& one) { return one.is_string(); }))
    throw InputError(fmt::format("there is no list of strings '{}'", name));
  return found->get<std::vector<std::string>>();
}

std::optional<std::int64_t> gold(const nlohmann::json& object, std::string_view name, std::size_t answers,
                                 std::int64_t first) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return std::nullopt;
  const std::string text = index_text(*found);
  if (text.empty()) return std::nullopt;
  std::int64_t index = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (error != std::errc() || end != text.data() + text.size() || index < first ||
      index - first >= static_cast<std::int64_t>(answers))
    throw InputError(fmt::format("'{}' names none of the {} answers", name, answers));
  return index - first;
}

TaskItem choices(std::string context, const std::vector<std::string>& answers,
                 std::optional<std::int64_t> gold) {
  if (answers.size() < 2) throw InputError("there are fewer than 2 answers to choose from");
  TaskItem item;
  for (const std::string& answer : answers)
    item.answers.push_back({context, " " + answer, characters(answer)});
  item.gold = gold;
  return item;
}

std::string with_answer_line(std::string query) {
  if (!query.ends_with('\n')) query += '\n';
  return query + "Answer:";
}

std::int64_t characters(std::string_view text) {
  // Every byte but the second to fourth of a sequence starts one.
  return std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

}  // namespace knapsaq::task_fields
