#include "knapsaq/pipeline/find_model.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

#include <fmt/core.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// A repository of the hub as people write it.
struct Repository {
  std::string organisation;
  std::string name;
  std::string revision;
};

/// What names of organisations and repositories consist of; "." and ".." are no names.
bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= 96 && text.find_first_not_of('.') != text.npos &&
         std::ranges::all_of(
             text, [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.'; });
}

/// Branches and tags may have slashes, too.
bool is_revision(std::string_view text) {
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('/', begin), text.size());
    if (!is_name(text.substr(begin, end - begin))) return false;
    begin = end + 1;
  }
  return true;
}

bool parse(const std::string& text, Repository& repository) {
  const std::size_t at = std::min(text.find('@'), text.size());
  const std::size_t slash = text.find('/');
  if (slash >= at) return false;
  repository.organisation = text.substr(0, slash);
  repository.name = text.substr(slash + 1, at - slash - 1);
  repository.revision = at < text.size() ? text.substr(at + 1) : "main";
  return is_name(repository.organisation) && is_name(repository.name) && is_revision(repository.revision);
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

fs::path cache_folder() {
  if (const std::string hub = variable("HF_HUB_CACHE"); !hub.empty()) return hub;
  if (const std::string home = variable("HF_HOME"); !home.empty()) return fs::path(home) / "hub";
  const std::string xdg = variable("XDG_CACHE_HOME");
  const fs::path caches = xdg.empty() ? fs::path(variable("HOME")) / ".cache" : fs::path(xdg);
  return caches / "huggingface" / "hub";
}

/// The commit that a branch or tag stands for; empty where there is none.
std::string commit_of(const fs::path& reference) {
  std::ifstream file(reference);
  std::string commit;
  file >> commit;
  return is_name(commit) ? commit : "";
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

}  // namespace

fs::path find_model(const fs::path& name) {
  Repository wanted;
  if (is_there(name) || !parse(name.string(), wanted)) return name;
  const fs::path folder = cache_folder() / fmt::format("models--{}--{}", wanted.organisation, wanted.name);
  const std::string named = commit_of(folder / "refs" / wanted.revision);
  const fs::path snapshot = folder / "snapshots" / (named.empty() ? wanted.revision : named);
  // What is no model is told apart where it is opened.
  for (const char* file : {"config.json", "adapter_config.json", "model_index.json"})
    if (is_there(snapshot / file)) return snapshot;
  throw InputError(
      fmt::format("{0}: is neither a file or folder here nor in the Hugging Face cache ({1}): fetch it with "
                  "`hf download {2}/{3}{4}`",
                  name.string(), cache_folder().string(), wanted.organisation, wanted.name,
                  wanted.revision == "main" ? "" : " --revision " + wanted.revision));
}

}  // namespace knapsaq
