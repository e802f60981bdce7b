#include "knapsaq/watch/server_record.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <span>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/base/partial_output.h"
#include "knapsaq/base/retried.h"
#include "knapsaq/search/run_files.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFormat = "knapsaq-watch";
constexpr std::size_t kTokenBytes = 16;
constexpr std::uint64_t kMostBytes = 4096;

/// "<id of the boot>" of a process's start.
std::string_view boot_of(const ProcessMark& process) {
  return std::string_view(process.start).substr(0, process.start.find(' '));
}

bool is_token(std::string_view text) {
  return text.size() == 2 * kTokenBytes &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// Whether the file is of this user, and nobody else may read it.
bool is_private(const fs::path& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == ::geteuid() &&
         (status.st_mode & 077) == 0;
}

}  // namespace

std::string ServerRecord::address() const { return fmt::format("http://127.0.0.1:{}/{}/", port, token); }

std::string random_token() {
  unsigned char bytes[kTokenBytes];
  if (::getrandom(bytes, sizeof bytes, 0) != static_cast<ssize_t>(sizeof bytes))
    throw IoError(fmt::format("the system gives no random numbers: {}", std::strerror(errno)));
  return fmt::format("{:02x}", fmt::join(bytes, ""));
}

std::optional<ServerRecord> read_server_record(const fs::path& run) {
  const fs::path path = run / kServerName;
  if (!is_private(path)) return std::nullopt;
  try {
    const nlohmann::json read = parse_json(read_file(path, kMostBytes));
    ServerRecord record;
    record.process.id =
        whole_number(read.at("process").at("id"), "process", 1, std::numeric_limits<pid_t>::max());
    record.process.start = read.at("process").at("start").get<std::string>();
    record.port = static_cast<int>(whole_number(read.at("port"), "port", 1, 65535));
    record.token = read.at("token").get<std::string>();
    // Nobody else knows this system's boot: a record that somebody packed into a folder has another one.
    const std::string_view boot = boot_of(record.process);
    if (read.at("format") != kFormat || boot.empty() || boot != boot_of(this_process()) ||
        !is_token(record.token))
      return std::nullopt;
    return record;
  } catch (const Error&) {
    return std::nullopt;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

void write_server_record(const fs::path& run, const ServerRecord& record) {
  const fs::path path = run / kServerName;
  const std::string text = nlohmann::json{
      {"format", kFormat},
      {"process", {{"id", record.process.id}, {"start", record.process.start}}},
      {"port", record.port},
      {"token", record.token}}.dump();
  remove_leftovers(path);
  PartialOutput partial(path, PartialOutput::Kind::file);
  // Private before there is anything in it.
  if (::fchmod(partial.descriptor(), 0600) != 0 ||
      retried([&] { return ::write(partial.descriptor(), text.data(), text.size()); }) != std::ssize(text) ||
      ::rename(partial.path().c_str(), path.c_str()) != 0)
    throw IoError(fmt::format("{}: cannot write: {}", path.string(), std::strerror(errno)));
  partial.forget();
}

void close_server_record(const fs::path& run) {
  try {
    std::optional<ServerRecord> record = read_server_record(run);
    if (!record || record->process != this_process()) return;
    record->process.start = fmt::format("{} ended", boot_of(record->process));
    write_server_record(run, *record);
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch)
    // The process ends soon, and with it the record's claim.
  }
}

std::optional<std::string> served_at(const fs::path& run) {
  const std::optional<ServerRecord> record = read_server_record(run);
  if (!record || !is_running(record->process)) return std::nullopt;
  return record->address();
}

}  // namespace knapsaq
