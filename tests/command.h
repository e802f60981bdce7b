#pragma once

// The command line as a user meets it: the built program, run in a shell.

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

#include <nlohmann/json.hpp>
#include <sys/wait.h>

#include "knapsaq/base/files.h"

namespace knapsaq {

/// What a command line came to.
struct Outcome {
  int code = -1;  ///< 128 and the signal's number where a signal ended it
  std::string out;
  std::string err;
  nlohmann::json json() const { return nlohmann::json::parse(out); }
};

/// Runs `line` with its output in files of the folder `work`. Standard input is empty unless `line` says
/// otherwise.
inline Outcome run_line(const std::filesystem::path& work, const std::string& line) {
  const std::filesystem::path out = work / "stdout";
  const std::filesystem::path err = work / "stderr";
  // The braces: redirections inside of `line` come after these.
  const int status =
      std::system(("{ " + line + "\n} >" + out.string() + " 2>" + err.string() + " </dev/null").c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(out), read_file(err)};
}

/// Bytes of all weight files of a model folder: what a budget is compared with.
inline std::uint64_t weight_bytes(const std::filesystem::path& folder) {
  std::uint64_t sum = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().filename().string().starts_with("model")) sum += entry.file_size();
  return sum;
}

/// All files of a folder, by name.
inline std::map<std::string, std::string> content_of(const std::filesystem::path& folder) {
  std::map<std::string, std::string> content;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file())
      content[std::filesystem::relative(entry.path(), folder).string()] = read_file(entry.path());
  return content;
}

}  // namespace knapsaq
