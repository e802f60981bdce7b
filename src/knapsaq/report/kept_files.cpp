#include "knapsaq/report/kept_files.h"

#include <vector>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/hash.h"

namespace knapsaq {

namespace fs = std::filesystem;

void keep_file(const fs::path& folder, const std::string& name, const fs::path& path, std::string_view text) {
  fs::create_directories(folder);
  const std::string place = hash_hex(fs::weakly_canonical(path).string()).substr(0, 8);
  write_file(folder / fmt::format("{}-{}.json", name, place), text);
}

void read_kept_files(const fs::path& folder, std::string_view remedy,
                     const std::function<void(std::string_view text)>& parse) {
  if (!fs::is_directory(folder)) return;
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  for (const fs::path& file : files) {
    try {
      parse(read_file(file));
    } catch (const InputError& error) {
      throw InputError(fmt::format("{}: {}; {}", file.string(), error.what(), remedy));
    }
  }
}

}  // namespace knapsaq
