#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "knapsaq/eval/tasks/item.h"

/// How the tasks' parsers read a line's object, and what they share. Errors are InputError without a
/// location.
namespace knapsaq::task_fields {

bool has(const nlohmann::json& object, std::string_view name);
/// A field that must be a string.
const std::string& text(const nlohmann::json& object, std::string_view name);
/// A field that must be a list of strings.
std::vector<std::string> texts(const nlohmann::json& object, std::string_view name);
/// The index of the correct one of `answers` answers: a number, or one in a string, counted from `first`, or
/// a truth value (false, true = 0, 1). Nullopt if the field is missing, null or an empty string, as in the
/// benchmarks' test sets; anything else that is not such an index is refused.
std::optional<std::int64_t> gold(const nlohmann::json& object, std::string_view name, std::size_t answers,
                                 std::int64_t first = 0);

/// One context and several answers, joined by a blank as in the harness.
TaskItem choices(std::string context, const std::vector<std::string>& answers,
                 std::optional<std::int64_t> gold);
/// `query` of the common layout, which is "Question: .." with or without a line end, and the line that asks
/// for the answer.
std::string with_answer_line(std::string query);

/// Code points.
std::int64_t characters(std::string_view text);

}  // namespace knapsaq::task_fields
