#include "knapsaq/eval/tasks/read_items.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/text/corpus.h"

namespace knapsaq {
namespace {

constexpr std::string_view kBlanks = " \t\r";

/// Lines of a text, one after the other, with their numbers.
class Lines {
 public:
  explicit Lines(std::string_view text) : rest_(text) {}
  /// The next line that is not blank; nullopt at the end.
  std::optional<std::string_view> next() {
    while (!rest_.empty()) {
      const std::size_t end = std::min(rest_.find('\n'), rest_.size());
      const std::string_view line = rest_.substr(0, end);
      rest_.remove_prefix(std::min(end + 1, rest_.size()));
      ++number_;
      if (line.find_first_not_of(kBlanks) != std::string_view::npos) return line;
    }
    return std::nullopt;
  }
  std::size_t number() const { return number_; }  ///< of the line that next() gave last, from 1

 private:
  std::string_view rest_;
  std::size_t number_ = 0;
};

std::optional<std::int64_t> label_of(std::string_view line, std::size_t answers) {
  line.remove_prefix(line.find_first_not_of(kBlanks));
  line.remove_suffix(line.size() - 1 - line.find_last_not_of(kBlanks));
  std::int64_t label = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), label);
  if (error != std::errc() || end != line.data() + line.size() || label < 0 ||
      label >= static_cast<std::int64_t>(answers))
    return std::nullopt;
  return label;
}

}  // namespace

std::vector<TaskItem> parse_items(const Task& task, std::string_view text, std::string_view labels,
                                  const std::string& where, std::int64_t limit) {
  std::vector<TaskItem> items;
  Lines lines(text);
  Lines label_lines(labels);
  while (limit == 0 || std::ssize(items) < limit) {
    const std::optional<std::string_view> line = lines.next();
    if (!line) break;
    const auto fail = [&](std::string_view what) {
      return InputError(fmt::format("{}:{}: {}; give items of {} with their right answers", where,
                                    lines.number(), what, task.name));
    };
    TaskItem item;
    if (lines.number() == 1 && line->find_first_not_of(kBlanks) == line->find('['))
      throw fail("the file is one JSON document, not an object on every line");
    try {
      const nlohmann::json object = parse_json(*line);
      if (!object.is_object()) throw InputError("is not an object");
      item = task.parse(object);
    } catch (const InputError& error) {
      throw fail(error.what());
    }
    if (!labels.empty()) {
      const std::optional<std::string_view> label = label_lines.next();
      if (!label) throw fail("the file of labels ends before this item");
      item.gold = label_of(*label, item.answers.size());
      if (!item.gold)
        throw fail(
            fmt::format("line {} of the file of labels names none of the answers", label_lines.number()));
    }
    if (!item.gold) throw fail("there is no gold label");
    item.line = lines.number();
    items.push_back(std::move(item));
  }
  if (items.empty()) throw InputError(fmt::format("{}: holds no items of {}", where, task.name));
  if (!labels.empty() && limit == 0 && label_lines.next())
    throw InputError(fmt::format("{}: the file of labels has more lines than there are items", where));
  return items;
}

std::vector<TaskItem> read_items(const Task& task, const std::filesystem::path& folder, std::int64_t limit) {
  // The benchmarks' files have at most some ten thousand items of a few kilobytes.
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 30;
  const std::filesystem::path path = folder / fmt::format("{}.jsonl", task.name);
  if (!std::filesystem::exists(path))
    throw IoError(fmt::format(
        "{}: there is no such file; --data names a folder with a NAME.jsonl for every task", path.string()));
  const std::filesystem::path labels = folder / fmt::format("{}-labels.lst", task.name);
  return parse_items(task, read_utf8_file(path, kLargest),
                     task.labels_beside && std::filesystem::exists(labels) ? read_utf8_file(labels, kLargest)
                                                                           : std::string(),
                     path.string(), limit);
}

}  // namespace knapsaq
