#include "knapsaq/pipeline/case_log.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/retried.h"

namespace knapsaq {
namespace {

constexpr std::string_view kHeader =
    "run,method,configuration,bits,bytes,memory_bytes,perplexity,quantize_seconds";
constexpr std::size_t kFields = 8;

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> fields;
  for (;;) {
    const std::size_t comma = line.find(',');
    fields.push_back(line.substr(0, comma));
    if (comma == std::string_view::npos) return fields;
    line.remove_prefix(comma + 1);
  }
}

template <class Number>
bool parse(std::string_view text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

/// Appends to a file, to the disk.
void append(const std::filesystem::path& path, std::string_view text) {
  const int file =
      retried([&] { return ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666); });
  const auto fail = [&] {
    const int error = errno;
    if (file >= 0) ::close(file);
    throw IoError(fmt::format("{}: cannot be written: {}", path.string(), std::strerror(error)));
  };
  if (file < 0) fail();
  while (!text.empty()) {
    const ssize_t written = retried([&] { return ::write(file, text.data(), text.size()); });
    if (written < 0) fail();
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  if (retried([&] { return ::fsync(file); }) != 0 && errno != EINVAL && errno != EROFS)
    fail();  // EINVAL: a pipe or /dev/null
  ::close(file);
}

}  // namespace

CaseLog::CaseLog(std::filesystem::path path, std::string run, std::vector<std::string> tasks)
    : path_(std::move(path)), run_(std::move(run)), tasks_(std::move(tasks)) {
  std::string text;
  if (std::filesystem::exists(path_)) text = read_file(path_);
  const std::size_t whole = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
  std::string columns(kHeader);
  for (const std::string& task : tasks_) columns += "," + task;
  if (!tasks_.empty()) columns += ",average";
  const std::string header = columns + "\n";
  const std::size_t expected = kFields + (tasks_.empty() ? 0 : tasks_.size() + 1);
  const auto wrong = [&](std::size_t line, std::string_view what) {
    return InputError(fmt::format("{}, line {}: {}: give another file", path_.string(), line, what));
  };
  if (whole == 0) {
    if (!header.starts_with(text)) throw wrong(1, "is not the CSV of a comparison");
    begin_ = header;
    return;
  }
  std::string_view rest = std::string_view(text).substr(0, whole);
  for (std::size_t number = 1; !rest.empty(); ++number) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(line.size() + 1);
    if (number == 1) {
      if (line != columns)
        throw wrong(number, line.starts_with(kHeader) ? "is of a comparison by other tasks"
                                                      : "is not the CSV of a comparison");
      continue;
    }
    const std::vector<std::string_view> fields = split(line);
    CaseResult result;
    result.tasks.resize(tasks_.size());
    bool right = fields.size() == expected;
    for (std::size_t i = 0; right && i < tasks_.size(); ++i)
      right = parse(fields[kFields + i], result.tasks[i]);
    if (right && !tasks_.empty()) right = parse(fields.back(), result.average);
    if (!right || !parse(fields[3], result.bits) || !parse(fields[4], result.bytes) ||
        !parse(fields[5], result.memory) || !parse(fields[6], result.perplexity) ||
        !parse(fields[7], result.quantize_seconds) || !std::isfinite(result.bits) ||
        !std::isfinite(result.quantize_seconds) || std::isinf(result.perplexity))
      throw wrong(number, "is not a row of a comparison");
    if (fields[0] != run_)
      throw wrong(number, "was made with another model, text or protocol, or another way to calibrate");
    result.method = fields[1];
    result.configuration = fields[2];
    results_.push_back(std::move(result));
  }
  // Killed while it wrote: the row is not counted as finished.
  if (whole < text.size()) begin_ = text.substr(0, whole);
}

const CaseResult* CaseLog::find(std::string_view method, std::string_view configuration) const {
  const auto found = std::ranges::find_if(results_, [&](const CaseResult& one) {
    return one.method == method && one.configuration == configuration;
  });
  return found == results_.end() ? nullptr : &*found;
}

void CaseLog::add(const CaseResult& result) {
  std::string row =
      fmt::format("{},{},{},{},{},{},{},{:.3f}", run_, result.method, result.configuration, result.bits,
                  result.bytes, result.memory, result.perplexity, result.quantize_seconds);
  for (const double task : result.tasks) row += fmt::format(",{}", task);
  if (!tasks_.empty()) row += fmt::format(",{}", result.average);
  if (!begin_.empty()) write_file(path_, std::exchange(begin_, {}));
  append(path_, row + "\n");
  results_.push_back(result);
}

}  // namespace knapsaq
