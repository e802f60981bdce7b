#include "knapsaq/base/output_plan.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <system_error>

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include "knapsaq/base/atomic_folder.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

// The longest that is put behind an output's name or below it: ".partial-<process>-<n>" and a tensor's file
// in a folder of a bank.
constexpr std::size_t kLongestEnding = 32;
constexpr std::size_t kLongestBelow = 512;

UsageError wrong(const fs::path& name, std::string_view what) {
  return UsageError(fmt::format("{}: {}", name.string(), what));
}

void check_lengths(const fs::path& name, const fs::path& path) {
  const long longest = ::pathconf(path.parent_path().c_str(), _PC_NAME_MAX);
  const std::size_t room = longest > 0 ? static_cast<std::size_t>(longest) : NAME_MAX;
  if (path.filename().string().size() + kLongestEnding > room ||
      path.string().size() + kLongestBelow > PATH_MAX)
    throw wrong(name, "is too long a name: give a shorter one");
}

void check_parent(const fs::path& name, const fs::path& path) {
  const fs::path parent = path.parent_path();
  std::error_code ignored;
  const fs::file_status status = fs::status(parent, ignored);
  if (!fs::exists(status))
    throw wrong(name, fmt::format("there is no folder {} for it: make that first", parent.string()));
  if (!fs::is_directory(status)) throw wrong(name, fmt::format("{} is not a folder", parent.string()));
  if (::faccessat(AT_FDCWD, parent.c_str(), W_OK | X_OK, AT_EACCESS) != 0)
    throw IoError(fmt::format("{}: the folder {} cannot be written: {}", name.string(), parent.string(),
                              std::strerror(errno)));
}

/// A volume of a container can be written into, but has no other name to change places with.
void refuse_mount(const fs::path& name, const fs::path& path) {
  struct stat own {};
  struct stat parent {};
  if (::stat(path.c_str(), &own) == 0 && ::stat(path.parent_path().c_str(), &parent) == 0 &&
      own.st_dev != parent.st_dev)
    throw wrong(name, "is where another file system begins, which cannot be replaced: give a name below it");
}

std::string beginning_of(const fs::path& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes().first(std::min(file.bytes().size(), OutputPlan::kBeginning));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

void OutputPlan::reads(std::string_view what, const fs::path& path) {
  if (path.empty() || is_allowed(FileIdentity(path))) return;
  sources_.push_back({std::string(what), FileIdentity(path)});
  for (const Place& output : outputs_) refuse_relatives(output.what, output.identity);
}

void OutputPlan::allows(const fs::path& place) { allowed_.push_back(FileIdentity(place).path()); }

bool OutputPlan::is_allowed(const FileIdentity& place) const {
  return std::ranges::find(allowed_, place.path()) != allowed_.end();
}

void OutputPlan::refuse_relatives(const fs::path& name, const FileIdentity& output) const {
  if (is_allowed(output)) return;
  for (const std::vector<Place>* places : {&sources_, &outputs_}) {
    for (const auto& [what, place] : *places) {
      if (&place == &output || is_allowed(place)) continue;
      const char* how = output.is(place)         ? "is"
                        : place.lies_in(output)  ? "holds"
                        : output.lies_in(place)  ? "lies in"
                        : place.leads_to(output) ? "holds files of"
                                                 : nullptr;
      if (how != nullptr)
        throw wrong(name, fmt::format("{} {}, which is needed: give another output", how,
                                      places == &sources_ ? what : "the output " + what));
    }
  }
}

fs::path OutputPlan::place(const fs::path& name, bool is_file) {
  if (name.empty()) throw UsageError("the name of an output is empty: give one");
  const std::string last = name.filename().string();
  if (is_file && (last.empty() || last == "." || last == ".."))
    throw wrong(name, "is the name of a folder, and a file is to be written: give the file's name");
  const FileIdentity identity(name);
  const fs::path& path = identity.path();
  if (path == path.root_path()) throw wrong(name, "cannot be an output: give another name");
  refuse_relatives(name, identity);
  if (!is_allowed(identity)) check_parent(name, path);
  check_lengths(name, path);
  if (!is_file) restore_waiting(path);
  refuse_existing(path, true);
  std::error_code ignored;
  const fs::file_status status = fs::status(path, ignored);
  if (fs::exists(status) && is_file && !fs::is_regular_file(status))
    throw wrong(name, "is not a regular file and cannot be replaced by one: give another name");
  if (fs::exists(status) && !is_file && !fs::is_directory(status))
    throw wrong(name, "is not a folder, and a folder is to be written: give another name");
  outputs_.push_back({name.string(), identity});
  return path;
}

fs::path OutputPlan::folder(const fs::path& name, bool replace) {
  const fs::path path = place(name, false);
  refuse_existing_folder(path, replace);
  refuse_mount(name, path);
  return path;
}

fs::path OutputPlan::file(const fs::path& name, bool replace, Recogniser own) {
  const fs::path path = place(name, true);
  refuse_existing(path, replace);
  std::error_code ignored;
  if (fs::exists(path, ignored) && fs::file_size(path, ignored) != 0 && !own(beginning_of(path)))
    throw wrong(
        name,
        "exists and was not written by Knapsaq: give another name, or move it away (nothing replaces it)");
  return path;
}

fs::path OutputPlan::workspace(const fs::path& name) {
  const fs::path path = place(name, false);
  if (fs::exists(path) && ::faccessat(AT_FDCWD, path.c_str(), W_OK | X_OK, AT_EACCESS) != 0)
    throw IoError(fmt::format("{}: cannot be written: {}", name.string(), std::strerror(errno)));
  return path;
}

fs::path OutputPlan::log(const fs::path& name) {
  const fs::path path = place(name, true);
  if (fs::exists(path) && ::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) != 0)
    throw IoError(fmt::format("{}: cannot be written: {}", name.string(), std::strerror(errno)));
  return path;
}

}  // namespace knapsaq
