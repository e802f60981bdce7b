#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "knapsaq/eval/tasks/item.h"

/// How the tasks' parsers read a line's object, and what they share. Errors are InputError without a place.
namespace knapsaq::task_fields {

bool has(const nlohmann::json& object, std::string_view name);
/// A field that has to be a string.
const std::string& text(const nlohmann::json& object, std::string_view name);
/// A field that has to be a list of strings.
std::vector<std::string> texts(const nlohmann::json& object, std::string_view name);
/// The index of the right one of `answers` answers: a number, or one in a string, counted from `first`, or a
/// truth value (false, true = 0, 1). None if the field is missing, null or an empty string, as in the
/// benchmarks' test sets; anything else that is no such index is refused.
std::optional<std::int64_t> gold(const nlohmann::json& object, std::string_view name, std::size_t answers,
                                 std::int64_t first = 0);

/// One context, several answers, as the harness joins them: by a blank.
TaskItem choices(std::string context, const std::vector<std::string>& answers,
                 std::optional<std::int64_t> gold);
/// `query` of the common layout, which is "Question: .." with or without the end of its line, and the line
/// that asks for the answer.
std::string with_answer_line(std::string query);

/// Code points.
std::int64_t characters(std::string_view text);

}  // namespace knapsaq::task_fields
